package cli

import (
	"context"
	"errors"
	"os"

	"golang.org/x/term"

	"github.com/ashlar-os/ashlar/internal/cli/installer"
	"github.com/ashlar-os/ashlar/internal/machine/install"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// runInstaller asks the questions on this terminal, and restarts the computer when
// it has installed.
func runInstaller(ctx context.Context, o installOptions, in *install.Installer, record *sysroot.Record) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return &codeError{exitUsage, &hintError{
			errors.New("there is no terminal to ask at"),
			"ashlar install --answers FILE asks nothing",
		}}
	}
	disks, err := installDisks(record)
	if err != nil {
		return err
	}
	var a install.Answers
	o.apply(&a)
	name, version := imageVersion()
	in.Log = tellKernel
	b := installer.Backend{
		Release: name + "-" + version, Disks: disks,
		Plan: func(a *install.Answers) (*install.Plan, error) { return in.Plan(ctx, a, disks) },
		Run: func(plan *install.Plan, p progress.Reporter) (*install.Result, error) {
			unlock, err := lockInstall()
			if err != nil {
				return nil, err
			}
			defer unlock()
			result, err := in.Run(ctx, plan, p)
			if err != nil {
				tellKernel(err.Error())
				return nil, err
			}
			tellReport(&result.Report)
			return result, noteInstalled()
		},
	}
	columns, rows, _ := term.GetSize(int(os.Stdin.Fd())) // 0, 0: it does not say
	result, err := installer.Run(ctx, b, a, installer.Terminal{In: os.Stdin, Out: os.Stdout, Width: columns, Height: rows})
	if err != nil || result == nil {
		return err
	}
	return reboot(ctx)
}

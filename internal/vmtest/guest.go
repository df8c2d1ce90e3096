package vmtest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Boot starts the machine and waits until commands can be run in it.
func (vm *VM) Boot(ctx context.Context) error {
	if err := vm.Start(ctx); err != nil {
		return err
	}
	return vm.WaitReady(ctx)
}

// WaitReady waits until commands can be run: basic.target is reached.
func (vm *VM) WaitReady(ctx context.Context) error {
	if vm.run == nil {
		return ErrOff
	}
	if _, err := vm.run.agent.ready(ctx, ""); err != nil {
		return vm.explain("waiting for it to be ready", err)
	}
	return nil
}

// WaitConsole waits until the console says something that matches pattern,
// after what the last call matched, and returns it.
func (vm *VM) WaitConsole(ctx context.Context, pattern string) (string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return "", err
	}
	match, err := vm.console.Wait(ctx, re)
	if err != nil {
		return "", vm.explain(fmt.Sprintf("waiting for %q on the console", pattern), err)
	}
	return match, nil
}

// Run runs a shell script in the guest, as root. The error says that it got no
// answer; how the script ended is in the result.
func (vm *VM) Run(ctx context.Context, script string) (Result, error) {
	if vm.run == nil {
		return Result{}, ErrOff
	}
	res, err := vm.run.agent.run(ctx, script)
	if err != nil {
		return res, vm.explain(fmt.Sprintf("running %q", script), err)
	}
	return res, nil
}

// Output runs a script that must succeed and returns its stdout without the last newline.
func (vm *VM) Output(ctx context.Context, script string) (string, error) {
	res, err := vm.Run(ctx, script)
	if err != nil {
		return "", err
	}
	if res.Code != 0 {
		return "", fmt.Errorf("%s: %q ended with status %d: %s%s", vm.Name, script, res.Code, res.Stdout, res.Stderr)
	}
	return strings.TrimSuffix(res.Stdout, "\n"), nil
}

// Reboot restarts the guest as its administrator would, and waits until it is ready again.
func (vm *VM) Reboot(ctx context.Context) error {
	return vm.RebootWith(ctx, "systemctl --no-block reboot")
}

// RebootWith runs a script that restarts the guest, such as "ashlar update
// --reboot", and waits until the machine is ready again.
func (vm *VM) RebootWith(ctx context.Context, script string) error {
	if vm.run == nil {
		return ErrOff
	}
	boot, err := vm.run.agent.ready(ctx, "")
	if err != nil {
		return vm.explain("rebooting", err)
	}
	res, err := vm.Run(ctx, script)
	if err == nil && res.Code != 0 {
		return fmt.Errorf("%s: %q ended with status %d: %s%s", vm.Name, script, res.Code, res.Stdout, res.Stderr)
	}
	if err != nil && !errors.Is(err, ErrRebooted) {
		return err
	}
	if _, err := vm.run.agent.ready(ctx, boot); err != nil {
		return vm.explain("rebooting", err)
	}
	return nil
}

// Shutdown turns the guest off as its administrator would.
func (vm *VM) Shutdown(ctx context.Context) error {
	if _, err := vm.Run(ctx, "systemctl --no-block poweroff"); err != nil && !errors.Is(err, ErrOff) {
		return err
	}
	return vm.Wait(ctx)
}

// explain wraps err with what the console said last and where all of it is.
func (vm *VM) explain(doing string, err error) error {
	text := vm.console.Text()
	if len(text) > 1500 {
		text = text[len(text)-1500:]
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w (%s)", err, time.Now().UTC().Format(time.TimeOnly))
	}
	return fmt.Errorf("%s: %s: %w\nconsole (all of it is in %s) ends:\n%s", vm.Name, doing, err, vm.Log, text)
}

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/limited"
)

type resetOptions struct {
	confirm        string
	cancel, reboot bool
}

// resetAnswer is what `ashlar reset --json` prints.
type resetAnswer struct {
	Schema  int    `json:"schema"` // 1
	Host    string `json:"host"`
	Pending bool   `json:"pending"` // the next boot resets this machine
}

func newResetCommand(g *globals) *cobra.Command {
	var o resetOptions
	c := &cobra.Command{
		Use:     "reset",
		GroupID: "machine",
		Short:   "Give /etc and /var back to the image's defaults, at the next boot",
		Long: `Have the next boot take away all that this machine has of its own: /var with the
home directories, and every change to /etc with the users, passwords and names
that were made here. The system itself stays, and so does the way back to the
one before it, with an /etc of its image alike.

The machine's name has to be typed, or given with --confirm. Until the next boot
--cancel takes it back.

Afterwards nobody can log in but the users that the image itself has. What was on
the disk is removed, not overwritten.`,
		Example: "  ashlar reset --reboot\n  ashlar reset --confirm box --json\n  ashlar reset --cancel",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return runReset(c.Context(), o, g) },
	}
	flags := c.Flags()
	flags.StringVar(&o.confirm, "confirm", "", "the `NAME` of this machine, instead of typing it")
	flags.BoolVar(&o.cancel, "cancel", false, "take it back")
	flags.BoolVar(&o.reboot, "reboot", false, "restart now")
	c.MarkFlagsMutuallyExclusive("cancel", "confirm")
	c.MarkFlagsMutuallyExclusive("cancel", "reboot")
	return c
}

func runReset(ctx context.Context, o resetOptions, g *globals) error {
	m, unlock, err := lockMachine("reset")
	if err != nil {
		return err
	}
	defer unlock()
	answer := resetAnswer{Schema: 1, Host: hostName(), Pending: !o.cancel}
	if o.cancel {
		err = m.Store.CancelReset()
	} else if err = o.mustMean(answer.Host); err == nil {
		err = m.Store.AskReset()
	}
	if err != nil {
		return err
	}
	switch {
	case g.json:
		err = g.printJSON(answer)
	case o.cancel:
		g.printf("%s keeps its /etc and /var\n", answer.Host)
	default:
		g.printf("the next boot takes away /var and all changes of /etc on %s; until then ashlar reset --cancel takes it back\n", answer.Host)
	}
	if err == nil && o.reboot {
		return reboot(ctx)
	}
	return err
}

// mustMean has the machine's name typed.
func (o *resetOptions) mustMean(host string) error {
	word := o.confirm
	if word == "" {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return &codeError{exitUsage, &hintError{errors.New("there is no terminal to type this machine's name at"), "ashlar reset --confirm " + host}}
		}
		defer tty.Close()
		fmt.Fprintf(tty, "All of /var and all changes of /etc will be lost.\nType this machine's name, %s, to go on: ", host)
		if word, err = bufio.NewReader(tty).ReadString('\n'); err != nil {
			return err
		}
		word = strings.TrimSpace(word)
	}
	if word != host {
		return &codeError{exitUsage, fmt.Errorf("this machine is called %q, and not %q: nothing was changed", host, word)}
	}
	return nil
}

// hostName is what this machine is called.
func hostName() string {
	if b, err := limited.File(filepath.Join(machineRoot(), "etc/hostname"), 4096); err == nil {
		if name := strings.TrimSpace(string(b)); name != "" {
			return name
		}
	}
	if machineRoot() == "/" {
		if name, err := os.Hostname(); err == nil && name != "" {
			return name
		}
	}
	return "localhost"
}

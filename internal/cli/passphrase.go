package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/ashlar-os/ashlar/internal/trust"
)

// maxPassphrase limits a passphrase, in bytes.
const maxPassphrase = 1024

// passphraseVariable holds a passphrase for those who cannot give a descriptor.
const passphraseVariable = "ASHLAR_PASSPHRASE"

// passphraseOptions say where the passphrases of private keys come from: a
// file descriptor, the environment, or whoever sits at the terminal.
type passphraseOptions struct {
	fd int
}

func (o *passphraseOptions) register(flags *pflag.FlagSet) {
	flags.IntVar(&o.fd, "passphrase-fd", -1, "read the passphrase of all keys from this file descriptor `N`, one line")
}

// source is what answers for passphrases. What is given as a descriptor or in
// the environment opens every key. At the terminal, what was typed for one key is
// tried for the next before that is asked for.
func (o *passphraseOptions) source() trust.Passphrase {
	var given, typed []byte
	return func(ask trust.Ask) ([]byte, error) {
		if given != nil {
			return given, nil
		}
		var err error
		switch words := os.Getenv(passphraseVariable); {
		case o.fd >= 0:
			given, err = readPassphrase(o.fd)
			return given, err
		case words != "":
			given = []byte(words)
			return given, nil
		}
		if typed != nil && !ask.New && !ask.Again {
			return typed, nil
		}
		typed, err = promptPassphrase(ask, typed)
		return typed, err
	}
}

// of is the source for one key, as package keyfile asks.
func (o *passphraseOptions) of(ask trust.Ask) func() ([]byte, error) {
	source := o.source()
	return func() ([]byte, error) { return source(ask) }
}

// readPassphrase reads the first line of a descriptor.
func readPassphrase(fd int) ([]byte, error) {
	f := os.NewFile(uintptr(fd), "passphrase")
	if f == nil {
		return nil, &codeError{exitUsage, fmt.Errorf("--passphrase-fd %d is no file descriptor", fd)}
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, maxPassphrase+1)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading the passphrase from descriptor %d: %w", fd, err)
	}
	line = bytes.TrimRight(line, "\r\n")
	if len(line) == 0 || len(line) > maxPassphrase {
		return nil, fmt.Errorf("reading the passphrase from descriptor %d: it has %d bytes, want 1 to %d", fd, len(line), maxPassphrase)
	}
	return line, nil
}

// promptPassphrase asks at the terminal, twice for a new one, which may also be
// the one before.
func promptPassphrase(ask trust.Ask, before []byte) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, &hintError{
			fmt.Errorf("the key %q needs a passphrase, and there is no terminal to ask at", ask.File),
			"give it with --passphrase-fd or in " + passphraseVariable,
		}
	}
	defer tty.Close()
	question := func(words string) ([]byte, error) {
		fmt.Fprintf(tty, "%s %s (%s): ", words, ask.File, ask.Role)
		line, err := term.ReadPassword(int(tty.Fd()))
		fmt.Fprintln(tty)
		return line, err
	}
	if !ask.New {
		return question("Passphrase of")
	}
	words := "New passphrase for"
	if before != nil {
		words = "New passphrase (empty: the same as before) for"
	}
	for {
		first, err := question(words)
		if err != nil {
			return nil, err
		}
		if len(first) == 0 && before != nil {
			return before, nil
		}
		second, err := question("Once more, for")
		switch {
		case err != nil:
			return nil, err
		case len(first) == 0:
			fmt.Fprintln(tty, "It is empty.")
		case !bytes.Equal(first, second):
			fmt.Fprintln(tty, "The two differ.")
		default:
			return first, nil
		}
	}
}

package cli

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/machine/install"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
)

// answersLabel is the label of a drive whose answers.toml is taken.
const answersLabel = "ASHLAR-ANSWERS"

// answersTimeout is how long a server has to give them.
const answersTimeout = 2 * time.Minute

// runInstallConsole is what the medium's service runs on every console: by answers
// where there are any, and else with questions. It never comes back from an
// installation: the service would begin another.
func runInstallConsole(ctx context.Context, o installOptions, g *globals, in *install.Installer, record *sysroot.Record) error {
	a, from, err := findAnswers(ctx, in, record)
	if err == nil && a == nil {
		return runInstaller(ctx, o, in, record)
	}
	unlock, mine, lockErr := waitForTurn(ctx, g)
	if lockErr != nil {
		return lockErr
	}
	defer unlock()
	if _, statErr := os.Stat(installedMark()); statErr == nil {
		unlock()
		return waitAndReboot(ctx, g, "This medium has installed its system. Remove it and press Enter to restart.")
	}
	switch {
	case err != nil:
	case !mine:
		err = errors.New("the installation on another console has failed")
	default:
		g.printf("Installing by the answers from %s.\n", from)
		o.apply(a)
		if a.Then == "" {
			a.Then = "poweroff" // a machine that starts from the medium again would be installed again
		}
		err = installLocked(ctx, o, g, in, record, a)
	}
	if err != nil && mine {
		tellKernel(err.Error()) // the other consoles are told only that it failed
	}
	if err == nil && a.Then == "wait" {
		return waitAndReboot(ctx, g, "Remove the medium and press Enter to restart.")
	}
	if err == nil {
		<-ctx.Done() // systemd ends this, too
		return nil
	}
	unlock() // whoever waits says so, too
	g.printError(err)
	return waitForEnter(ctx, g, "Nothing boots from the disk by this. Press Enter to try again.")
}

// waitForTurn takes the lock of installations. Where another console has it, it
// waits for the end of that one, and mine is false.
func waitForTurn(ctx context.Context, g *globals) (unlock func(), mine bool, err error) {
	for mine = true; ; mine = false {
		unlock, err = lockInstall()
		var coded *codeError
		if err == nil || !errors.As(err, &coded) || coded.code != exitBusy {
			return unlock, mine, err
		}
		if mine {
			g.printf("An installation is under way on another console.\n")
		}
		select {
		case <-ctx.Done():
			return nil, false, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func waitAndReboot(ctx context.Context, g *globals, words string) error {
	if err := waitForEnter(ctx, g, words); err != nil {
		return err
	}
	return reboot(ctx)
}

// waitForEnter waits for a line on the terminal.
func waitForEnter(ctx context.Context, g *globals, words string) error {
	g.printf("%s\n", words)
	line := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(os.Stdin).ReadString('\n')
		line <- err
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-line:
		return err
	}
}

// findAnswers looks for answers where they can be left for an installer: in a
// kernel parameter, on a drive, on the medium itself. The first of them counts, which is the
// one that was given last. nil: there are none.
func findAnswers(ctx context.Context, in *install.Installer, record *sysroot.Record) (a *install.Answers, from string, err error) {
	cmdline, err := limited.File(filepath.Join(machineRoot(), "proc/cmdline"), 64<<10)
	if err != nil {
		return nil, "", err
	}
	var b []byte
	if url, sum := answersArguments(string(cmdline)); url != "" {
		from = url
		b, err = fetchAnswers(ctx, url, sum)
	} else if device := filepath.Join(machineRoot(), "dev/disk/by-label", answersLabel); exists(device) {
		from = "the drive " + answersLabel
		b, err = readAnswersDrive(device, filepath.Join(in.Work, "answers"))
	} else {
		from = "the medium"
		b, err = readMediumRegion(record, record.Medium.Answers, medium.ReadAnswers)
		if errors.Is(err, medium.ErrBlank) {
			return nil, "", nil
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading the answers from %s: %w", from, err)
	}
	a, err = install.ReadAnswers(from, b)
	return a, from, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// answersArguments finds ashlar.answers=URL and ashlar.answers-sha256=DIGEST.
func answersArguments(cmdline string) (url, sum string) {
	for _, word := range strings.Fields(cmdline) {
		if v, ok := strings.CutPrefix(word, "ashlar.answers="); ok {
			url = v
		}
		if v, ok := strings.CutPrefix(word, "ashlar.answers-sha256="); ok {
			sum = v
		}
	}
	return url, sum
}

// fetchAnswers fetches answers from a server. Nobody need trust that: the digest
// stands beside the address.
func fetchAnswers(ctx context.Context, url, sum string) ([]byte, error) {
	if len(sum) != 2*sha256.Size {
		return nil, errors.New("the kernel parameter ashlar.answers-sha256 with their digest is missing")
	}
	ctx, cancel := context.WithTimeout(ctx, answersTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server says %q", resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, install.MaxAnswers+1))
	if err != nil {
		return nil, err
	}
	if got := sha256.Sum256(b); hex.EncodeToString(got[:]) != strings.ToLower(sum) {
		return nil, fmt.Errorf("they have the sha256 %x, and %s was asked for", got, sum)
	}
	return b, nil
}

// readAnswersDrive reads answers.toml from a drive.
func readAnswersDrive(device, dir string) (b []byte, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, kind := range []string{"vfat", "ext4", "iso9660"} {
		err = unix.Mount(device, dir, kind, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		if err != nil {
			continue
		}
		b, err = limited.File(filepath.Join(dir, "answers.toml"), install.MaxAnswers)
		return b, errors.Join(err, unix.Unmount(dir, 0))
	}
	return nil, fmt.Errorf("mounting it: %w", err)
}

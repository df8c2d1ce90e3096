package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// localAgent runs agent.sh with this machine's sh over a terminal pair that
// plays the virtio port.
func localAgent(t *testing.T) (*agent, *exec.Cmd) {
	t.Helper()
	master, slave := openPTY(t)
	// The script's directory is the guest's /run/vmtest: here a directory of the test.
	script := filepath.Join(t.TempDir(), "agent")
	text := strings.Replace(agentScript, "dir=/run/vmtest", "dir="+t.TempDir(), 1)
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", script, slave)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		master.Close()
	})
	return attached(master), cmd
}

// openPTY opens a raw pseudo-terminal.
func openPTY(t *testing.T) (master *os.File, slave string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	termios, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	termios.Lflag, termios.Iflag, termios.Oflag = 0, 0, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, termios); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "ptmx"), fmt.Sprintf("/dev/pts/%d", number)
}

func TestAgentRunsScripts(t *testing.T) {
	a, _ := localAgent(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, test := range []struct {
		script string
		want   Result
	}{
		{"true", Result{}},
		{"echo out; echo err >&2; exit 3", Result{"out\n", "err\n", 3}},
		{"printf '%s' \"$((1 + 1)) 'quoted' $HOME_THAT_IS_NOT_SET\"\nprintf '\\000\\377'", Result{"2 'quoted' \x00\xff", "", 0}},
		{"read -r line || echo no input", Result{"no input\n", "", 0}},
		{"echo not for you >&3", Result{"", "", 2}},
		{"kill -9 $$", Result{"", "", 137}},
		{"head -c 200000 /dev/zero | tr '\\0' x", Result{strings.Repeat("x", 200000), "", 0}},
	} {
		got, err := a.run(ctx, test.script)
		if err != nil {
			t.Fatalf("%q: %v", test.script, err)
		}
		if test.want.Stderr == "" {
			got.Stderr = "" // what a shell says about a bad descriptor or a kill is its own
		}
		if got != test.want {
			t.Errorf("%q gave %.200q, %q, %d", test.script, got.Stdout, got.Stderr, got.Code)
		}
	}
}

func TestAgentReportsTheEnd(t *testing.T) {
	// The guest's side of a plain connection, where a reboot can be played.
	guest, host := net.Pipe()
	a := attached(host)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	say := func(s string) {
		if _, err := guest.Write([]byte(s)); err != nil {
			t.Error(err)
		}
	}
	say("\nready boot-1\n")
	if boot, err := a.ready(ctx, ""); boot != "boot-1" || err != nil {
		t.Fatalf("ready is %q, %v", boot, err)
	}

	short, cancelShort := context.WithCancel(ctx)
	cancelShort()
	go guest.Read(make([]byte, 100))
	if _, err := a.run(short, "true"); !errors.Is(err, context.Canceled) {
		t.Errorf("given up, and the error is %v", err)
	}

	go func() {
		guest.Read(make([]byte, 100))
		say("done 1 0  \ndone 2 0 bm90") // the answer to the one given up, and half a line
		say("\nready boot-2\n")
	}()
	if _, err := a.run(ctx, "reboot -f"); !errors.Is(err, ErrRebooted) {
		t.Errorf("the guest restarted, and the error is %v", err)
	}
	if boot, err := a.ready(ctx, "boot-1"); boot != "boot-2" || err != nil {
		t.Errorf("ready is %q, %v", boot, err)
	}

	go func() {
		guest.Read(make([]byte, 100))
		guest.Close()
	}()
	if _, err := a.run(ctx, "poweroff -f"); !errors.Is(err, ErrOff) {
		t.Errorf("the guest turned off, and the error is %v", err)
	}
}

// attached is the host's end of a port that is connected once.
func attached(conn io.ReadWriter) *agent {
	a := newAgent()
	gone := a.attach(conn)
	go func() {
		<-gone
		a.close()
	}()
	return a
}

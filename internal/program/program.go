// Package program runs other programs, and is the only place that does.
//
// Their output is read in machine formats only; what they say on stderr is
// kept for the person who must know why they failed, and never parsed.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Command is one program to run. The zero values of all but Args mean: no
// input, output kept, the caller's directory, a C locale over the environment.
type Command struct {
	Args   []string  // name and arguments
	Dir    string    // working directory
	Env    []string  // added to the caller's environment
	Stdin  io.Reader // nil: empty
	Stdout io.Writer // nil: returned by Run
	Stderr io.Writer // gets a copy of stderr; nil: only the tail is kept for the error

	Grace time.Duration // from SIGTERM to SIGKILL; 0 means 10 s
}

// keepStderr is how much of a program's last words an error carries, in bytes.
const keepStderr = 2000

// Error says which program failed, how, and its last words.
type Error struct {
	Name   string
	Err    error
	Stderr string
}

func (e *Error) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("%s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Name, e.Err, e.Stderr)
}

func (e *Error) Unwrap() error { return e.Err }

// Hint names the Debian package of a program that is not there.
func (e *Error) Hint() string {
	if !errors.Is(e.Err, exec.ErrNotFound) {
		return ""
	}
	if pkg, ok := packages[e.Name]; ok {
		return "apt-get install " + pkg
	}
	return "install " + e.Name
}

var packages = map[string]string{
	"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "debugfs": "e2fsprogs", "mkfs.vfat": "dosfstools",
	"mcopy": "mtools", "mmd": "mtools", "mdir": "mtools", "mtype": "mtools", "sfdisk": "fdisk", "qemu-img": "qemu-utils", "qemu-system-x86_64": "qemu-system-x86",
	"unshare": "util-linux", "tar": "tar", "skopeo": "skopeo", "bwrap": "bubblewrap", "xorriso": "xorriso", "mkfs.erofs": "erofs-utils", "cryptsetup": "cryptsetup-bin",
	"apt-get": "apt", "apt-cache": "apt", "newuidmap": "uidmap",
}

// Run runs c to its end and returns its stdout when c.Stdout is nil. When ctx
// is done the program and its children are sent SIGTERM, then killed. So are
// children that hold its output when it has ended.
func Run(ctx context.Context, c Command) ([]byte, error) {
	cmd := exec.CommandContext(ctx, find(c.Args[0]), c.Args[1:]...)
	cmd.Dir = c.Dir
	cmd.Env = append(append(os.Environ(), "LC_ALL=C.UTF-8"), c.Env...)
	cmd.Stdin = c.Stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if c.Grace > 0 {
		cmd.WaitDelay = c.Grace
	}

	var out bytes.Buffer
	last := &tail{limit: keepStderr}
	cmd.Stdout, cmd.Stderr = c.Stdout, io.Writer(last)
	if c.Stdout == nil {
		cmd.Stdout = &out
	}
	if c.Stderr != nil {
		cmd.Stderr = io.MultiWriter(last, c.Stderr)
	}
	if err := cmd.Run(); err != nil {
		if cmd.Process != nil && (ctx.Err() != nil || errors.Is(err, exec.ErrWaitDelay)) {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // mostly nobody is left
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, &Error{Name: c.Args[0], Err: err, Stderr: strings.TrimSpace(string(last.kept))}
	}
	return out.Bytes(), nil
}

// Check returns an [Error] for the first of these programs that is not there, for
// work that must not find that out in the middle.
func Check(names ...string) error {
	for _, name := range names {
		if _, err := exec.LookPath(find(name)); err != nil {
			return &Error{Name: name, Err: exec.ErrNotFound}
		}
	}
	return nil
}

// find looks for a program in PATH, and then where Debian keeps what its users
// do not have in theirs: mkfs and its like.
func find(name string) string {
	if _, err := exec.LookPath(name); err == nil || strings.Contains(name, "/") {
		return name
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(dir + "/" + name); err == nil {
			return path
		}
	}
	return name
}

// tail keeps the last limit bytes written to it.
type tail struct {
	limit int
	kept  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if len(t.kept) > t.limit {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-t.limit:]...)
	}
	return len(p), nil
}

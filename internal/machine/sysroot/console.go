package sysroot

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Limits of what is asked and answered at consoles.
const (
	maxConsoles = 16
	maxAnswer   = 512 // bytes, as many as cryptsetup takes
)

// errNobody says that a question got no answer.
var errNobody = errors.New("nobody answered")

// consoles are the terminals at which somebody may sit: every one that the
// kernel writes its messages to. A machine with a screen and a serial line has
// two, and which of them is looked at only the person knows.
type consoles struct{ list []*console }

type console struct {
	fd     int
	before unix.Termios
	answer []byte // as far as it was typed
}

// consoleNames reads /proc/consoles: one console a line, its name first.
func consoleNames(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return []string{"console"} // whichever of them is the last
	}
	defer f.Close()
	var names []string
	for lines := bufio.NewScanner(io.LimitReader(f, 64<<10)); lines.Scan() && len(names) < maxConsoles; {
		if f := strings.Fields(lines.Text()); len(f) > 0 && filepath.Base(f[0]) == f[0] && filepath.IsLocal(f[0]) {
			names = append(names, f[0])
		}
	}
	return names
}

// screen is the terminal that a person before the screen sees, where systemd asks
// for a login. The kernel's console is whichever of the terminals is in front.
const screen = "tty1"

// consoleTerminals lists the terminals of a running system at which somebody may
// sit: its consoles, and the screen, which may be there although the kernel says
// nothing on it.
func consoleTerminals(consoles string) []string {
	terminals := []string{screen}
	for _, name := range consoleNames(consoles) {
		if name != "tty0" && name != "console" && !slices.Contains(terminals, name) {
			terminals = append(terminals, name)
		}
	}
	return terminals
}

// openConsoles opens those consoles that are terminals, as a console over the
// network is not, and stops them from showing what is typed.
func openConsoles(paths []string) *consoles {
	c := &consoles{}
	for _, path := range paths {
		// Not blocking: a serial line may be waiting for a modem.
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			unix.Close(fd)
			continue
		}
		silent := *before
		silent.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		silent.Cc[unix.VMIN], silent.Cc[unix.VTIME] = 1, 0
		// What was typed before anything was asked is no answer.
		if err := unix.IoctlSetTermios(fd, unix.TCSETSF, &silent); err != nil {
			unix.Close(fd)
			continue
		}
		c.list = append(c.list, &console{fd: fd, before: *before})
	}
	return c
}

// close gives the consoles back as they were.
func (c *consoles) close() {
	for _, t := range c.list {
		_ = unix.IoctlSetTermios(t.fd, unix.TCSETSF, &t.before) // as far as it is still there
		unix.Close(t.fd)
	}
	c.list = nil
}

// print writes to every console. One that takes nothing is left alone.
func (c *consoles) print(text string) {
	for _, t := range c.list {
		_, _ = unix.Write(t.fd, []byte(text))
	}
}

// ask returns the first line that is typed at any console, or errNobody when no
// key was pressed anywhere for that long. Whenever devices are announced
// meanwhile, arrived is called: a keyboard may be among them.
func (c *consoles) ask(question string, patience time.Duration, devices *uevents, arrived func()) ([]byte, error) {
	c.print(question)
	for last := time.Now(); ; {
		if len(c.list) == 0 {
			return nil, fmt.Errorf("there is no console to ask at")
		}
		left := patience - time.Since(last)
		if left <= 0 {
			return nil, errNobody
		}
		fds := make([]unix.PollFd, 0, len(c.list)+1)
		for _, t := range c.list {
			fds = append(fds, unix.PollFd{Fd: int32(t.fd), Events: unix.POLLIN})
		}
		if devices != nil {
			fds = append(fds, unix.PollFd{Fd: int32(devices.fd), Events: unix.POLLIN})
		}
		n, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("waiting at the consoles: %w", err)
		}
		if n <= 0 {
			continue
		}
		if devices != nil && fds[len(c.list)].Revents != 0 {
			devices.drain()
			arrived()
		}
		answer, typed := c.read(fds)
		if answer != nil {
			return answer, nil
		}
		if typed {
			last = time.Now()
		}
	}
}

// read takes what was typed at the consoles that poll found something at. answer
// is nil until a line has ended.
func (c *consoles) read(fds []unix.PollFd) (answer []byte, typed bool) {
	var kept []*console
	for i, t := range c.list {
		kept = append(kept, t)
		if fds[i].Revents == 0 || answer != nil {
			continue
		}
		var buf [256]byte
		n, err := unix.Read(t.fd, buf[:])
		switch {
		case n > 0:
			typed = true
			if t.take(buf[:n]) {
				answer, t.answer = t.answer, nil
			}
			clear(buf[:])
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		default: // it was hung up, and would say so for ever
			unix.Close(t.fd)
			kept = kept[:len(kept)-1]
		}
	}
	c.list = kept
	if answer != nil {
		c.print("\r\n")
		for _, t := range c.list {
			clear(t.answer)
			t.answer = nil
		}
	}
	return answer, typed
}

// take adds keys to the answer and reports whether the line has ended. What a
// terminal would edit with is understood: backspace in both of its forms, ^U and
// ^W, which take all of a line of which nothing is seen.
func (t *console) take(keys []byte) bool {
	if t.answer == nil {
		t.answer = make([]byte, 0, maxAnswer) // so that no copy of it stays behind
	}
	for _, k := range keys {
		switch {
		case k == '\r' || k == '\n':
			return true
		case k == 0x7f || k == '\b':
			_, n := utf8.DecodeLastRune(t.answer)
			t.answer = t.answer[:len(t.answer)-n]
		case k == 'U'-'@' || k == 'W'-'@':
			t.answer = t.answer[:0]
		case k >= ' ' && len(t.answer) < maxAnswer:
			t.answer = append(t.answer, k)
		}
	}
	return false
}

// everyConsole opens the machine's consoles.
func everyConsole() *consoles {
	var paths []string
	for _, name := range consoleNames("/proc/consoles") {
		paths = append(paths, filepath.Join("/dev", name))
	}
	return openConsoles(paths)
}

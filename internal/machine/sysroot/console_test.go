package sysroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestConsoleNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "consoles")
	write(t, path, "tty0                 -WU (EC  p  )    4:7\nttyS0                -W- (E   p a)    4:64\n../evil -W-\n..\n\n")
	if got, want := consoleNames(path), []string{"tty0", "ttyS0"}; !reflect.DeepEqual(got, want) {
		t.Errorf("consoles %q, want %q", got, want)
	}
	if got, want := consoleTerminals(path), []string{"tty1", "ttyS0"}; !reflect.DeepEqual(got, want) {
		t.Errorf("terminals %q, want %q", got, want)
	}
	write(t, path, "ttyS0                -W- (E   p a)    4:64\n")
	if got, want := consoleTerminals(path), []string{"tty1", "ttyS0"}; !reflect.DeepEqual(got, want) {
		t.Errorf("terminals with a serial console alone: %q, want %q", got, want)
	}
}

// terminal is a console with somebody at its other end.
type terminal struct {
	t      *testing.T
	person *os.File
	path   string
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return &terminal{t, person, fmt.Sprintf("/dev/pts/%d", n)}
}

func (p *terminal) types(keys string) {
	p.t.Helper()
	if _, err := p.person.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// sees reads until the terminal has shown text, and returns all of it.
func (p *terminal) sees(text string) string {
	p.t.Helper()
	var said strings.Builder
	buf := make([]byte, 256)
	for !strings.Contains(said.String(), text) {
		n, err := p.person.Read(buf)
		if err != nil {
			p.t.Fatalf("the terminal shows %q, want %q: %v", said.String(), text, err)
		}
		said.Write(buf[:n])
	}
	return said.String()
}

// The question is on every console, the first line ends it, and what is typed is
// shown nowhere.
func TestAsk(t *testing.T) {
	screen, serial := newTerminal(t), newTerminal(t)
	c := openConsoles([]string{screen.path, "/dev/null", "/does/not/exist", serial.path})
	if len(c.list) != 2 {
		t.Fatalf("%d consoles, want the two that are terminals", len(c.list))
	}
	screen.types("half of it")
	go func() {
		serial.sees("Secret: ")
		serial.types("gä\x7fehexm\b\x15geheim\r")
	}()
	got, err := c.ask("Secret: ", time.Minute, nil, nil)
	if err != nil || string(got) != "geheim" {
		t.Fatalf("the answer is %q, %v", got, err)
	}
	c.print("thanks")
	for _, p := range []*terminal{screen, serial} {
		if said := p.sees("thanks"); strings.Contains(said, "geheim") || strings.Contains(said, "half") {
			t.Errorf("a console shows %q", said)
		}
	}
	// What was left on the other console is no part of the next answer.
	screen.types("again\n")
	if got, err := c.ask("Secret: ", time.Minute, nil, nil); err != nil || string(got) != "again" {
		t.Errorf("the second answer is %q, %v", got, err)
	}
	c.close()
	before := openConsoles([]string{screen.path})
	if before.list[0].before.Lflag&(unix.ECHO|unix.ICANON) != unix.ECHO|unix.ICANON {
		t.Error("the console was not given back as it was")
	}
	before.close()
}

func TestNobodyAnswers(t *testing.T) {
	p := newTerminal(t)
	c := openConsoles([]string{p.path})
	defer c.close()
	if _, err := c.ask("Secret: ", time.Millisecond, nil, nil); !errors.Is(err, errNobody) {
		t.Errorf("error is %v, want %v", err, errNobody)
	}
	p.person.Close() // somebody pulls the cable
	if _, err := c.ask("Secret: ", time.Minute, nil, nil); err == nil || !strings.Contains(err.Error(), "no console") {
		t.Errorf("error is %v, want one that there is no console", err)
	}
}

func TestTake(t *testing.T) {
	for keys, want := range map[string]string{
		"\r":                                    "",
		"ab\x7f\x7f\x7fc\n":                     "c",
		"ä\x7fb\r":                              "b",
		"abc\x17d\r":                            "d",
		"a\x00\x1bb\tc\r":                       "abc",
		strings.Repeat("x", 2*maxAnswer) + "\r": strings.Repeat("x", maxAnswer),
	} {
		c := &console{}
		if !c.take([]byte(keys)) || string(c.answer) != want {
			t.Errorf("%q gives %q, want %q", keys, c.answer, want)
		}
	}
	if c := (&console{}); c.take([]byte("no end")) {
		t.Error("a line ends before Enter")
	}
}

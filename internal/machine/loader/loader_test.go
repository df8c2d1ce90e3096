package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/machine/boot"
)

const espID = "abcdef01-2345-6789-abcd-ef0123456789"

// computer is a machine with a firmware that does what BootNext, BootOrder and the
// path that it tries by itself say.
type computer struct {
	t *testing.T
	*Machine
	broken map[string]bool // loaders that do not start anything
	boots  int
}

func program(version string) string {
	return "MZ…#### LoaderInfo: systemd-boot " + version + " ####…"
}

func newComputer(t *testing.T, entered, fallback, image string) *computer {
	root := t.TempDir()
	c := &computer{t: t, broken: map[string]bool{}, Machine: &Machine{Root: root, ESP: filepath.Join(root, "efi"), Store: filepath.Join(root, "store")}}
	c.write("store/x", "")
	c.write("proc/cmdline", "ashlar.image="+strings.Repeat("ab", 32))
	c.write("efi/"+Entered, entered)
	c.write("efi/"+Fallback, fallback)
	c.write(imagePaths[1], image)
	disk := "sys/devices/pci/block/vda/"
	for name, text := range map[string]string{"queue/logical_block_size": "512", "vda1/partition": "1", "vda1/start": "2048", "vda1/size": "2097152"} {
		c.write(disk+name, text+"\n")
	}
	c.link("sys/class/block/vda1", "../../devices/pci/block/vda/vda1")
	c.link("dev/disk/by-partuuid/"+espID, "../../vda1")
	return c
}

func (c *computer) write(name, text string) {
	path := filepath.Join(c.Root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *computer) link(name, target string) {
	path := filepath.Join(c.Root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *computer) variable(name string) []byte {
	b, err := boot.Variable(c.Root, variable(name))
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

func (c *computer) loader(file string) string {
	b, err := os.ReadFile(filepath.Join(c.ESP, file))
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	return string(b)
}

// choices are the files that the firmware would start, one when the other fails.
func (c *computer) choices() (list []string) {
	add := func(number []byte) {
		option := c.variable(fmt.Sprintf("Boot%04X", binary.LittleEndian.Uint16(number)))
		for _, file := range Copies {
			if path, err := c.devicePath(file); err == nil && strings.HasSuffix(string(option), string(path)) {
				list = append(list, file)
			}
		}
	}
	if next := c.variable("BootNext"); next != nil {
		add(next)
	}
	for order := c.variable("BootOrder"); len(order) >= 2; order = order[2:] {
		add(order)
	}
	return append(list, Fallback)
}

// start boots once and reports whether a system came up. One that hangs is what
// broken loaders do: the firmware gets no second choice in the same boot.
func (c *computer) start() bool {
	c.t.Helper()
	file := c.choices()[0]
	_ = os.Remove(boot.VariablePath(c.Root, variable("BootNext")))
	c.boots++
	c.write("proc/sys/kernel/random/boot_id", fmt.Sprint(c.boots))
	if c.broken[c.loader(file)] || c.loader(file) == "" {
		return false
	}
	c.write("sys/firmware/efi/efivars/"+startedVariable, "\x06\x00\x00\x00"+string(ucs2(`\`+strings.ReplaceAll(file, "/", `\`))))
	c.write("sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", "\x06\x00\x00\x00"+string(ucs2(espID)))
	return true
}

// good is what follows a good boot; it returns the plan that was taken.
func (c *computer) good() Plan {
	c.t.Helper()
	s, err := c.Look()
	if err != nil {
		c.t.Fatal(err)
	}
	p := s.Plan()
	if err := errors.Join(c.Clean(), c.Apply(s, p)); err != nil {
		c.t.Fatal(err)
	}
	return p
}

var (
	v1, v2 = program("257.13-1~deb13u1"), program("258.2-1")
)

// TestUpdated: the firmware begins with either copy, and both end as the image's.
func TestUpdated(t *testing.T) {
	for _, first := range Copies {
		c := newComputer(t, v1, v1, v2)
		c.start()
		if first == Entered {
			number, err := c.enter(Entered)
			if err := errors.Join(err, c.startFirst(number)); err != nil {
				t.Fatal(err)
			}
			c.start()
		}
		for i, want := range []Step{Try, Follow, Nothing} {
			if p := c.good(); p.Step != want {
				t.Fatalf("%s: boot %d: %+v, want %s", first, i, p, want)
			}
			if want == Try && c.loader(first) != v1 {
				t.Errorf("%s: what started the machine was written to", first)
			}
			if want != Nothing && !c.start() {
				t.Fatalf("%s: boot %d fails", first, i+1)
			}
		}
		if c.loader(Entered) != v2 || c.loader(Fallback) != v2 {
			t.Errorf("%s: the copies are %q and %q", first, c.loader(Entered), c.loader(Fallback))
		}
		if s, err := c.Look(); err != nil || s.Tried != nil {
			t.Errorf("%s: afterwards %+v, %v", first, s, err)
		}
	}
}

// TestBroken: a new loader that starts nothing costs a start each time, three times,
// and is gone then.
func TestBroken(t *testing.T) {
	c := newComputer(t, v1, v1, v2)
	c.broken[v2] = true
	c.start()
	for i := range maxTries {
		if p := c.good(); p.Step != Try {
			t.Fatalf("try %d: %+v", i, p)
		}
		if p := c.good(); p.Step != Nothing {
			t.Fatalf("twice in one boot: %+v", p)
		}
		if c.start() || !c.start() {
			t.Fatalf("try %d: it has to fail, and the start after it not to", i)
		}
	}
	if p := c.good(); p.Step != GiveUp || c.loader(Entered) != v1 || c.loader(Fallback) != v1 {
		t.Errorf("after the last try: %+v", p)
	}
	if p := c.good(); p.Step != Nothing || !strings.Contains(p.Why, "was tried 3 times and did not start this machine") {
		t.Errorf("later: %+v", p)
	}
	c.write(imagePaths[1], program("258.3-1"))
	if p := c.good(); p.Step != Try {
		t.Errorf("a newer one: %+v", p)
	}
}

// TestKept: where nothing is to be done, nothing is written, and why is said.
func TestKept(t *testing.T) {
	for _, test := range []struct {
		name, here, image, why string
		change                 func(*computer)
	}{
		{"the same", v1, v1, "", func(*computer) {}},
		{"an older one", v2, v1, "is older than what is here", func(*computer) {}},
		{"no loader in the image", v1, "", "the image brings no loader", func(c *computer) { os.Remove(filepath.Join(c.Root, imagePaths[1])) }},
		{"no variables", v1, v2, "it is not known which of the copies", func(c *computer) {
			os.RemoveAll(boot.VariablePath(c.Root, ""))
		}},
		{"started by another", v1, v2, "it is not known which of the copies", func(c *computer) {
			c.write("sys/firmware/efi/efivars/"+startedVariable, "\x06\x00\x00\x00"+string(ucs2(`\EFI\debian\shimx64.efi`)))
		}},
	} {
		c := newComputer(t, test.here, test.here, test.image)
		c.start()
		test.change(c)
		if p := c.good(); p.Step != Nothing || !strings.Contains(p.Why, test.why) || test.why == "" && p.Why != "" {
			t.Errorf("%s: %+v", test.name, p)
		}
		if c.loader(Entered) != test.here || c.loader(Fallback) != test.here {
			t.Errorf("%s: a copy was changed", test.name)
		}
	}
}

// TestFirmwareRefuses: variables that cannot be written are found out before a copy
// is touched.
func TestFirmwareRefuses(t *testing.T) {
	c := newComputer(t, v1, v1, v2)
	c.start()
	// A dangling link cannot be made into a file: the entry is not taken.
	c.link("sys/firmware/efi/efivars/"+bootVariable(0), "no/such/directory")
	s, err := c.Look()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(s, s.Plan()); err == nil || !strings.Contains(err.Error(), "Boot0000") {
		t.Errorf("the firmware refuses, and it says %v", err)
	}
	if c.loader(Entered) != v1 || c.loader(Fallback) != v1 {
		t.Error("a copy was changed all the same")
	}
}

func TestVersion(t *testing.T) {
	for text, want := range map[string]string{
		v1: "systemd-boot 257.13-1~deb13u1", "": "", "#### LoaderInfo: systemd-boot": "",
		"#### LoaderInfo: a\x00b ####": "", "#### LoaderInfo: " + strings.Repeat("x", 200) + " ####": "",
	} {
		if got := Version([]byte(text)); got != want {
			t.Errorf("of %q: %q, want %q", text, got, want)
		}
	}
}

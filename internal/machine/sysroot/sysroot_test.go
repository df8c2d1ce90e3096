package sysroot

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/ashlar-os/ashlar/internal/image/modules"
)

const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestCmdline(t *testing.T) {
	p, err := parseCmdline("console=ttyS0 x=\"a ashlar.image=no b\" ashlar.image=" + digest + " quiet\n")
	if err != nil || p.image.String() != digest || !p.quiet {
		t.Errorf("read as %+v, %v", p, err)
	}
	if p, err := parseCmdline("ashlar.image=" + digest + " ashlar.medium=" + digest + " --"); err != nil || p.medium != digest {
		t.Errorf("read as %+v, %v", p, err)
	}
	for line, want := range map[string]string{
		"":                            "names no image",
		"quiet ashlar.image=":         "0 characters",
		"ashlar.image=" + digest[1:]:  "63 characters",
		"ashlar.image=G" + digest[1:]: "not lower-case",
		"ashlar.image=" + digest + " ashlar.image=" + digest:                   "twice",
		"ashlar.image=" + digest + " ashlar.medium=abc":                        "bad ashlar.medium=",
		"ashlar.image=" + digest + " ashlar.medium=":                           "bad ashlar.medium=",
		"ashlar.image=" + digest + strings.Repeat(" ashlar.medium="+digest, 2): "a medium twice",
	} {
		if _, err := parseCmdline(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want one with %q", line, err, want)
		}
	}
}

// efiString is how efivarfs shows a string.
func efiString(s string) string {
	b := []byte{6, 0, 0, 0}
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

func TestBootPartition(t *testing.T) {
	dir := t.TempDir()
	if esp, err := bootPartition(dir); esp != "" || err != nil {
		t.Errorf("without the variable: %q, %v", esp, err)
	}
	path := filepath.Join(dir, loaderDevice)
	write(t, path, efiString(strings.ToUpper(espUUID)))
	if esp, err := bootPartition(dir); esp != espUUID || err != nil {
		t.Errorf("found %q, %v", esp, err)
	}
	for name, content := range map[string]string{
		"empty": "", "odd": "\x06\x00\x00\x00a", "no UUID": efiString("vda1"), "long": strings.Repeat("ab", 4000),
	} {
		write(t, path, content)
		if esp, err := bootPartition(dir); err == nil {
			t.Errorf("%s: taken as %q", name, esp)
		}
	}
}

func FuzzEFIString(f *testing.F) {
	f.Add([]byte(efiString(espUUID)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeEFIString(b)
		if err == nil && strings.Contains(s, "\x00") {
			t.Errorf("%q has a NUL", s)
		}
	})
}

func testList(t *testing.T) *modules.List {
	t.Helper()
	l, err := modules.Parse(strings.NewReader(`ashlar-modules 1 6.12
module ahci matched libahci libata
module crc32c_intel matched
module efivarfs always
module erofs always ?crc32c_intel libcrc32c
module libahci matched libata
module libata matched
module libcrc32c matched
module virtio_blk matched
alias ahci pci:v*d*sv*sd*bc01sc06i01*
alias crc32c_intel cpu:type:x86,*feature:*0094*
alias virtio_blk virtio:d00000002v*
`))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// recorder stands for the kernel: it notes what is inserted, and refuses some.
type recorder struct {
	mu     sync.Mutex
	names  []string
	refuse map[string]error
}

func (r *recorder) insert(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refuse[name]; err != nil {
		return err
	}
	r.names = append(r.names, name)
	return nil
}

// Modules load after what they need, each once, from any number of goroutines.
func TestLoader(t *testing.T) {
	r := &recorder{}
	l := newLoader(testList(t), r.insert)
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := l.load("ahci"); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if got := strings.Join(r.names, " "); got != "libata libahci ahci" {
		t.Errorf("inserted %q", got)
	}
	if err := l.load("ext4"); err != nil {
		t.Errorf("a module that is built in: %v", err)
	}
	if n := len(l.times()); n != 3 {
		t.Errorf("%d modules are recorded", n)
	}
}

func TestLoaderFailures(t *testing.T) {
	no := errors.New("no such device")
	l := newLoader(testList(t), (&recorder{refuse: map[string]error{"crc32c_intel": no, "libata": no}}).insert)
	if err := l.load("erofs"); err != nil {
		t.Errorf("a soft dependency that fails: %v", err)
	}
	err := l.load("ahci")
	if !errors.Is(err, no) || !strings.Contains(err.Error(), `module "ahci" needs`) || !strings.Contains(err.Error(), `"libata"`) {
		t.Errorf("a dependency that fails: %v", err)
	}
}

// Devices are matched as they appear; quick drivers come first, each once.
func TestDrivers(t *testing.T) {
	sys := t.TempDir()
	d := newDrivers(testList(t), sys)
	d.scan()
	if name := d.next(); name != "" {
		t.Errorf("without devices %q is loaded", name)
	}
	write(t, filepath.Join(sys, "bus/pci/devices/0000:00:1f.2/modalias"), "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01\n")
	d.scan()
	write(t, filepath.Join(sys, "bus/virtio/devices/virtio0/modalias"), "virtio:d00000002v00001AF4\n")
	write(t, filepath.Join(sys, "bus/virtio/devices/virtio1/modalias"), "virtio:d00000002v00001AF4\n")
	d.scan()
	got := []string{d.next(), d.next(), d.next()}
	if !reflect.DeepEqual(got, []string{"virtio_blk", "ahci", ""}) {
		t.Errorf("loaded %q", got)
	}
	write(t, filepath.Join(sys, "devices/system/cpu/modalias"), "cpu:type:x86,ven0000fam0006mod0006:feature:,0094,\n")
	if got := d.everyBoot(); !reflect.DeepEqual(got, []string{"efivarfs", "crc32c_intel", "efivarfs", "erofs"}) {
		t.Errorf("every boot loads %q", got)
	}
}

// Nothing is announced here, so waiting ends after its time and not before.
func TestUeventsTimeout(t *testing.T) {
	u, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	const wait = 30 * time.Millisecond
	start := time.Now()
	for u.wait(wait) { // a device of this very machine
		start = time.Now()
	}
	if took := time.Since(start); took < wait {
		t.Errorf("waited %v", took)
	}
}

func TestProbe(t *testing.T) {
	dir := t.TempDir()
	ext4, btrfs := make([]byte, 70000), make([]byte, 70000)
	copy(ext4[1024+0x38:], "\x53\xef")
	copy(btrfs[65536+64:], "_BHRfS_M")
	for name, content := range map[string][]byte{"ext4": ext4, "btrfs": btrfs} {
		write(t, filepath.Join(dir, name), string(content))
		if got, err := probe(filepath.Join(dir, name)); got != name || err != nil {
			t.Errorf("%s is taken for %q, %v", name, got, err)
		}
	}
	write(t, filepath.Join(dir, "none"), string(make([]byte, 70000)))
	if _, err := probe(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "neither ext4 nor btrfs") {
		t.Errorf("zeroes: %v", err)
	}
}

func TestUnits(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // a second time changes nothing
		if err := writeUnits(dir, espUUID); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "efi.mount"))
	if err != nil || !strings.Contains(string(b), "What=/dev/disk/by-partuuid/"+espUUID+"\n") {
		t.Errorf("efi.mount is %s (%v)", b, err)
	}
	// systemd names a device's unit by its path.
	out, err := exec.Command("systemd-escape", "--path", "/dev/disk/by-partuuid/"+espUUID).Output()
	check := "systemd-fsck@" + strings.TrimSpace(string(out)) + ".service\n"
	if err != nil || !strings.Contains(string(b), "Wants="+check) || !strings.Contains(string(b), "After="+check) {
		t.Errorf("efi.mount does not wait for %q (%v): %s", check, err, b)
	}
	if _, err := os.Stat(filepath.Join(dir, "local-fs.target.wants/efi.automount")); err != nil {
		t.Error(err)
	}
}

func TestRecord(t *testing.T) {
	dir := t.TempDir()
	b := &boot{start: time.Now(), step: time.Now()}
	b.finish("disk")
	b.record.ESPPartUUID = espUUID
	if err := b.writeRecord(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "boot.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r Record
	if err := json.Unmarshal(text, &r); err != nil || r.Schema != RecordSchema || r.ESPPartUUID != espUUID || len(r.Steps) != 1 {
		t.Errorf("read %+v, %v", r, err)
	}
}

// The place of a panic is what a bug report needs.
func TestFirstFrame(t *testing.T) {
	stack := "goroutine 1 [running]:\nruntime/debug.Stack()\n\t/x/stack.go:1 +0x1\nmain.f()\n\t/x/a.go:3 +0x2\npanic({0x1, 0x2})\n\t/x/panic.go:7 +0x3\nmain.g()\n\t/x/b.go:9 +0x4\n"
	if got := firstFrame([]byte(stack)); got != "/x/b.go:9" {
		t.Errorf("found %q", got)
	}
}

// A blessed entry is counted again after a failure; one that is being counted,
// another deployment's and a stranger's stay as they are.
func TestRearmEntry(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ashlar_1_aaaaaaaaaaaa.efi", "ashlar_2_bbbbbbbbbbbb+2-1.efi", "ashlar_3_cccccccccccc.efi", "other_aaaaaaaaaaaa.efi"} {
		write(t, filepath.Join(dir, name), name)
	}
	for _, d := range []string{"aaaaaaaaaaaa", "aaaaaaaaaaaa", "bbbbbbbbbbbb", "dddddddddddd"} {
		if err := rearmEntry(dir, d); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{"ashlar_1_aaaaaaaaaaaa+2-1.efi", "ashlar_2_bbbbbbbbbbbb+2-1.efi", "ashlar_3_cccccccccccc.efi", "other_aaaaaaaaaaaa.efi"}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("the ESP holds %q, want %q", names, want)
	}
}

// When everything is out of tries, what fails gives way to what was tried least:
// the loader alone would start the newest for ever.
func TestRearmGivesWay(t *testing.T) {
	for _, c := range []struct{ files, want []string }{
		{[]string{"ashlar_1_aaaaaaaaaaaa+0-3.efi", "ashlar_2_bbbbbbbbbbbb+0-4.efi", "ashlar_3_cccccccccccc+0-9.efi"},
			[]string{"ashlar_1_aaaaaaaaaaaa+1-3.efi", "ashlar_2_bbbbbbbbbbbb+0-4.efi", "ashlar_3_cccccccccccc+0-9.efi"}},
		{[]string{"ashlar_1_aaaaaaaaaaaa+0-3.efi", "ashlar_2_bbbbbbbbbbbb+0.efi", "ashlar_3_cccccccccccc+0-9.efi", "other+0-1.efi"},
			[]string{"ashlar_1_aaaaaaaaaaaa+0-3.efi", "ashlar_2_bbbbbbbbbbbb+1.efi", "ashlar_3_cccccccccccc+0-9.efi", "other+0-1.efi"}},
		{[]string{"ashlar_1_aaaaaaaaaaaa.efi", "ashlar_2_bbbbbbbbbbbb+0-3.efi", "ashlar_3_cccccccccccc+0-3.efi"}, nil}, // the first boots
		{[]string{"ashlar_2_bbbbbbbbbbbb+0-3.efi", "ashlar_2_dddddddddddd+1-2.efi", "ashlar_3_cccccccccccc+0-3.efi"}, nil},
		{[]string{"ashlar_2_bbbbbbbbbbbb+0-x.efi", "ashlar_3_cccccccccccc+0-3.efi"}, nil},
		{[]string{"ashlar_3_cccccccccccc+0-3.efi"}, nil},
	} {
		dir := t.TempDir()
		for _, name := range c.files {
			write(t, filepath.Join(dir, name), name)
		}
		if err := rearmEntry(dir, "cccccccccccc"); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if c.want == nil {
			c.want = c.files
		}
		if !reflect.DeepEqual(names, c.want) {
			t.Errorf("%q became %q, want %q", c.files, names, c.want)
		}
	}
}

// The files of the first root go; what was not put there stays.
func TestFreeInitramfs(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "init"), "x")
	write(t, filepath.Join(dir, "modules/list"), "x")
	freeInitramfs(dir)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

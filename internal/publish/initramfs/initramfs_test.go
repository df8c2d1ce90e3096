package initramfs

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/klauspost/compress/zstd"

	"github.com/ashlar-os/ashlar/internal/image/modules"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/program"
)

const version = "6.12.1-test"

// elfProgram is the smallest thing that reads as an ELF program; phType is the
// type of its one program header.
func elfProgram(machine uint16, phType uint32) []byte {
	b := make([]byte, 64+56)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], 2)
	le.PutUint16(b[18:], machine)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	le.PutUint32(b[64:], phType)
	return b
}

func add(t *tree.Tree, path string, data []byte) {
	n := t.Root
	parts := strings.Split(strings.Trim(path, "/"), "/")
	for _, dir := range parts[:len(parts)-1] {
		next := n.Child(dir)
		if next == nil {
			next = n.Add(&tree.Node{Name: dir, Mode: tree.TypeDir | 0o755})
		}
		n = next
	}
	n.Add(&tree.Node{Name: parts[len(parts)-1], Mode: tree.TypeRegular | 0o644, Size: uint64(len(data)), Inline: data})
}

func object(name string) []byte { return append([]byte("\x7fELF of "), name...) }

func zstdOf(t *testing.T, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

func gzipOf(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func xzOf(t *testing.T, b []byte) []byte {
	t.Helper()
	out, err := program.Run(context.Background(), program.Command{Args: []string{"xz", "-c"}, Stdin: bytes.NewReader(b)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// testTree has a kernel whose modules are compressed in every way there is:
// virtio built in, overlay depending on nothing, erofs with a chain and a soft
// dependency, and a module nobody asks for.
func testTree(t *testing.T) *tree.Tree {
	tr := &tree.Tree{Root: &tree.Node{Mode: tree.TypeDir | 0o755}}
	base := "/usr/lib/modules/" + version + "/"
	add(tr, base+"modules.dep", []byte(`kernel/fs/efivarfs/efivarfs.ko:
kernel/fs/erofs/erofs.ko.xz: kernel/lib/mid.ko.zst kernel/lib/low-est.ko.gz
kernel/lib/mid.ko.zst: kernel/lib/low-est.ko.gz
kernel/lib/low-est.ko.gz:
kernel/fs/overlayfs/overlay.ko.xz:
kernel/drivers/block/loop.ko:
kernel/drivers/usb/storage/uas.ko: kernel/drivers/usb/storage/usb-storage.ko
kernel/drivers/usb/storage/usb-storage.ko:
kernel/arch/x86/crypto/crc32c-intel.ko:
kernel/arch/x86/crypto/aesni-intel.ko:
kernel/sound/snd.ko:
`))
	add(tr, base+"modules.builtin", []byte("kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/block/virtio_blk.ko\n"))
	add(tr, base+"modules.softdep", []byte("# comment\nsoftdep low_est pre: crc32c post: snd\nsoftdep erofs pre: nowhere\n"))
	add(tr, base+"modules.alias", []byte("# comment\nalias crc32c crc32c_intel\nalias cpu:type:x86,*feature:*0094* crc32c_intel\nalias cpu:type:x86,*feature:*0099* aesni_intel\nalias usb:v*p*d*dc*dsc*dp*ic08isc06ip62in* uas\nalias snd-x snd\n"))
	for file, data := range map[string][]byte{
		"kernel/fs/efivarfs/efivarfs.ko":            object("efivarfs"),
		"kernel/fs/erofs/erofs.ko.xz":               xzOf(t, object("erofs")),
		"kernel/lib/mid.ko.zst":                     zstdOf(t, object("mid")),
		"kernel/lib/low-est.ko.gz":                  gzipOf(t, object("low_est")),
		"kernel/fs/overlayfs/overlay.ko":            object("overlay"), // decompressed after depmod ran
		"kernel/drivers/block/loop.ko":              object("loop"),
		"kernel/drivers/usb/storage/uas.ko":         object("uas"),
		"kernel/drivers/usb/storage/usb-storage.ko": object("usb_storage"),
		"kernel/arch/x86/crypto/crc32c-intel.ko":    object("crc32c_intel"),
		"kernel/arch/x86/crypto/aesni-intel.ko":     object("aesni_intel"),
		"kernel/sound/snd.ko":                       object("snd"),
	} {
		add(tr, base+file, data)
	}
	return tr
}

func testOptions(t *testing.T) Options {
	init := filepath.Join(t.TempDir(), "ashlar-init")
	if err := os.WriteFile(init, elfProgram(62, 1), 0o755); err != nil {
		t.Fatal(err)
	}
	return Options{Tree: testTree(t), KernelVersion: version, Init: init, Mtime: 1_700_000_000}
}

func build(t *testing.T, o Options) ([]byte, Report) {
	t.Helper()
	var b bytes.Buffer
	r, err := Build(context.Background(), &b, o)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), r
}

// unpack reads a cpio into a map of contents; directories are nil.
func unpack(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	r := cpio.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 1_700_000_000 || h.Uid != 0 || h.Guid != 0 {
			t.Errorf("%s has time %v and owner %d:%d", h.Name, h.ModTime, h.Uid, h.Guid)
		}
		if h.Mode.IsDir() {
			files[h.Name] = nil
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = b
	}
}

func TestContents(t *testing.T) {
	o := testOptions(t)
	archive, report := build(t, o)
	if int64(len(archive)) != report.Size {
		t.Errorf("the report says %d bytes, there are %d", report.Size, len(archive))
	}
	want := []string{"aesni_intel", "crc32c_intel", "efivarfs", "erofs", "loop", "low_est", "mid", "overlay", "uas", "usb_storage"}
	if got := strings.Join(report.Modules, " "); got != strings.Join(want, " ") {
		t.Errorf("modules are %s, want %s", got, want)
	}
	files := unpack(t, archive)
	for _, name := range want {
		if got := files["modules/"+name+".ko"]; !bytes.Equal(got, object(name)) {
			t.Errorf("module %s is %q", name, got)
		}
	}
	if !bytes.Equal(files["init"], elfProgram(62, 1)) {
		t.Error("/init differs from what was given")
	}
	if _, ok := files["cmdline"]; ok {
		t.Error("there is a command line that nobody gave")
	}
	l, err := modules.Parse(bytes.NewReader(files["modules/list"]))
	if err != nil {
		t.Fatal(err)
	}
	for name, line := range map[string]string{
		"erofs":        "always low_est mid",
		"mid":          "matched low_est",
		"low_est":      "matched ?crc32c_intel",
		"uas":          "matched usb_storage",
		"crc32c_intel": "matched",
		"aesni_intel":  "named", // and not by its alias
	} {
		m := l.Find(name)
		got := string(m.When)
		for _, n := range m.Needs {
			got += " " + map[bool]string{true: "?"}[n.Soft] + n.Name
		}
		if got != line {
			t.Errorf("%s is listed as %q, want %q", name, got, line)
		}
	}
	if len(l.Aliases) != 2 || l.Aliases[0].Module != "crc32c_intel" || l.Aliases[1].Module != "uas" {
		t.Errorf("aliases are %v", l.Aliases)
	}
}

// cpio(1) is the outside judge of the archive; it is the format the kernel's own
// documentation names.
func TestCpioListsIt(t *testing.T) {
	archive, _ := build(t, testOptions(t))
	out, err := program.Run(context.Background(), program.Command{
		Args: []string{"cpio", "-t", "--quiet"}, Stdin: bytes.NewReader(archive),
	})
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Fields(string(out)); len(lines) != len(unpack(t, archive)) || lines[0] != "dev" {
		t.Errorf("cpio lists %q", lines)
	}
}

func TestReproducible(t *testing.T) {
	o := testOptions(t)
	first, _ := build(t, o)
	second, _ := build(t, o)
	if !bytes.Equal(first, second) {
		t.Error("two builds differ")
	}
}

// An image that takes no other kernel command line than its own carries that.
func TestCmdline(t *testing.T) {
	o := testOptions(t)
	o.Cmdline = "ashlar.image=x --"
	archive, _ := build(t, o)
	if got := string(unpack(t, archive)["cmdline"]); got != "ashlar.image=x --\n" {
		t.Errorf("the command line is %q", got)
	}
}

func TestExtraModules(t *testing.T) {
	o := testOptions(t)
	o.Modules = []string{"snd"}
	archive, _ := build(t, o)
	l, err := modules.Parse(bytes.NewReader(unpack(t, archive)["modules/list"]))
	if err != nil {
		t.Fatal(err)
	}
	if m := l.Find("snd"); m == nil || m.When != modules.Always {
		t.Errorf("the module that was asked for is %+v", m)
	}
}

func TestBadInput(t *testing.T) {
	base := "/usr/lib/modules/" + version + "/"
	for _, c := range []struct {
		name, want string
		edit       func(o *Options)
	}{
		{"unknown kernel", `no modules of kernel "6.13" in /usr/lib/modules, it has "6.12.1-test"`, func(o *Options) { o.KernelVersion = "6.13" }},
		{"no kernel version", `"" is no kernel version`, func(o *Options) { o.KernelVersion = "" }},
		{"no modules at all", "no kernel", func(o *Options) { o.Tree.Lookup("/usr/lib").Remove("modules") }},
		{"no modules.softdep", `no "modules.softdep"`, func(o *Options) { o.Tree.Lookup(base).Remove("modules.softdep") }},
		{"kernel without erofs", `no module "erofs"`, func(o *Options) { add(o.Tree, base+"modules.dep", []byte("kernel/fs/efivarfs/efivarfs.ko:\n")) }},
		{"kernel without ext4", `no module "ext4"`, func(o *Options) { add(o.Tree, base+"modules.builtin", nil) }},
		{"unknown extra module", `no module "no_such"`, func(o *Options) { o.Modules = []string{"no-such"} }},
		{"module file gone", `lists "kernel/drivers/block/loop.ko"`, func(o *Options) { o.Tree.Lookup(base + "kernel/drivers/block").Remove("loop.ko") }},
		{"dependency not listed", `"low_est", which another one needs`, func(o *Options) {
			n := o.Tree.Lookup(base + "modules.dep")
			add(o.Tree, base+"modules.dep", bytes.Replace(n.Inline, []byte("kernel/lib/low-est.ko.gz:\n"), nil, 1))
		}},
		{"garbage in modules.dep", "line 1", func(o *Options) { add(o.Tree, base+"modules.dep", []byte("garbage\n")) }},
		{"truncated xz", "erofs.ko.xz", func(o *Options) {
			n := o.Tree.Lookup(base + "kernel/fs/erofs/erofs.ko.xz")
			add(o.Tree, base+"kernel/fs/erofs/erofs.ko.xz", n.Inline[:len(n.Inline)-8])
		}},
		{"module that is none", "no ELF object", func(o *Options) { add(o.Tree, base+"kernel/drivers/block/loop.ko", []byte("text")) }},
		{"content nowhere", "does not say where", func(o *Options) { o.Tree.Lookup(base + "kernel/drivers/block/loop.ko").Inline = nil }},
		{"no init", "no such file", func(o *Options) { o.Init += "x" }},
		{"init is a script", "no program", func(o *Options) { writeFile(t, o.Init, []byte("#!/bin/sh\n")) }},
		{"init for arm", "EM_AARCH64", func(o *Options) { writeFile(t, o.Init, elfProgram(183, 1)) }},
		{"dynamic init", "CGO_ENABLED=0", func(o *Options) { writeFile(t, o.Init, elfProgram(62, 3)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := testOptions(t)
			c.edit(&o)
			if _, err := Build(context.Background(), io.Discard, o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
		})
	}
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// depmod's files come from a package of the distribution, or from anybody.
func FuzzDepmod(f *testing.F) {
	f.Add("kernel/a.ko: kernel/b.ko\n", "softdep a pre: b\n", "alias pci:* a\n")
	f.Fuzz(func(t *testing.T, dep, soft, alias string) {
		texts := map[string]string{"modules.dep": dep, "modules.softdep": soft, "modules.alias": alias}
		k, err := readKernel(version, func(name string) ([]byte, error) { return []byte(texts[name]), nil })
		if err != nil {
			return
		}
		s := &selection{kernel: k, when: map[string]modules.When{}, needs: map[string][]modules.Need{}}
		for name := range k.files {
			if err := s.add(name, modules.Matched); err != nil {
				return
			}
		}
		s.list()
	})
}

package initramfs

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/cavaliergopher/cpio"

	"github.com/ashlar-os/ashlar/internal/image/modules"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/limited"
)

// maxDepmod bounds each of depmod's text files, maxInit the first process, in bytes.
const (
	maxDepmod = 64 << 20
	maxInit   = 64 << 20
)

// Options is what an initramfs is made of.
type Options struct {
	Tree          *tree.Tree // holds the kernel's modules
	KernelVersion string     // which of /usr/lib/modules
	Init          string     // path of ashlar-init
	Cmdline       string     // the only kernel command line it boots with; "": any
	Modules       []string   // loaded at every boot, besides the ones chosen here
	Mtime         int64      // of everything inside, seconds since 1970
}

// Report says what an initramfs holds.
type Report struct {
	Modules []string // sorted
	Size    int64    // bytes
}

// Build writes the initramfs to w.
func Build(ctx context.Context, w io.Writer, o Options) (Report, error) {
	b, err := newBuilder(o)
	if err != nil {
		return Report{}, fmt.Errorf("making the initramfs: %w", err)
	}
	r, err := b.write(ctx, w)
	if err != nil {
		return Report{}, fmt.Errorf("making the initramfs: %w", err)
	}
	return r, nil
}

// builder has everything decided; only the modules' contents are still to be read.
type builder struct {
	o    Options
	dir  *tree.Node // /usr/lib/modules/VERSION
	kern *kernel
	list *modules.List
	init []byte
}

func newBuilder(o Options) (*builder, error) {
	b := &builder{o: o}
	var err error
	if b.init, err = readInit(o.Init); err != nil {
		return nil, fmt.Errorf("first process %q: %w", o.Init, err)
	}
	if b.dir, err = modulesDir(o.Tree, o.KernelVersion); err != nil {
		return nil, err
	}
	b.kern, err = readKernel(o.KernelVersion, func(name string) ([]byte, error) {
		n := b.dir.Child(name)
		if n == nil {
			return nil, fmt.Errorf("kernel %s has no %q; depmod writes it", o.KernelVersion, name)
		}
		text, err := readNode(n, maxDepmod)
		if err != nil {
			return nil, fmt.Errorf("reading %q: %w", name, err)
		}
		return text, nil
	})
	if err != nil {
		return nil, err
	}
	s := &selection{kernel: b.kern, when: map[string]modules.When{}, needs: map[string][]modules.Need{}}
	all := choices
	for _, name := range o.Modules {
		all = append(all[:len(all):len(all)], choice{strings.ReplaceAll(name, "-", "_"), modules.Always, true})
	}
	for _, c := range all {
		switch {
		case b.kern.files[c.name] != "":
			if err := s.add(c.name, c.when); err != nil {
				return nil, err
			}
		case c.required && !b.kern.builtin[c.name]:
			return nil, fmt.Errorf("kernel %s has no module %q, built in or not", o.KernelVersion, c.name)
		}
	}
	b.list = s.list()
	return b, b.list.Check()
}

// readInit reads the first process and makes sure that it can be one where
// there is no dynamic linker and no library.
func readInit(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := limited.All(f, maxInit)
	if err != nil {
		return nil, err
	}
	e, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("it is no program: %w", err)
	}
	if e.Machine != elf.EM_X86_64 {
		return nil, fmt.Errorf("it is for %s, want %s", e.Machine, elf.EM_X86_64)
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("it is linked dynamically; build it with CGO_ENABLED=0")
		}
	}
	return data, nil
}

// modulesDir finds the modules of one kernel.
func modulesDir(t *tree.Tree, version string) (*tree.Node, error) {
	all := t.Lookup("/usr/lib/modules")
	if all == nil || !all.IsDir() {
		return nil, fmt.Errorf("the tree has no /usr/lib/modules, so no kernel")
	}
	if version == "" || strings.Contains(version, "/") {
		return nil, fmt.Errorf("%q is no kernel version", version)
	}
	if dir := all.Child(version); dir != nil && dir.IsDir() {
		return dir, nil
	}
	var have []string
	for _, c := range all.Children {
		have = append(have, fmt.Sprintf("%q", c.Name))
	}
	if len(have) == 0 {
		have = []string{"no kernel at all"}
	}
	return nil, fmt.Errorf("the tree has no modules of kernel %q in /usr/lib/modules, it has %s", version, strings.Join(have, ", "))
}

// moduleNode finds the file of a module, which may have been compressed or
// decompressed since depmod wrote its path.
func (b *builder) moduleNode(name string) (string, *tree.Node, error) {
	file := b.kern.files[name]
	dir := b.dir
	for _, part := range strings.Split(path.Dir(file), "/") {
		if dir != nil && part != "." {
			dir = dir.Child(part)
		}
	}
	if dir != nil {
		stem, _, _ := strings.Cut(path.Base(file), ".ko")
		for _, suffix := range []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"} {
			if n := dir.Child(stem + suffix); n != nil {
				return stem + suffix, n, nil
			}
		}
	}
	return "", nil, fmt.Errorf("kernel %s: modules.dep lists %q, which the tree does not have", b.o.KernelVersion, file)
}

func (b *builder) write(ctx context.Context, w io.Writer) (Report, error) {
	count := &counter{w: w}
	a := &archive{w: cpio.NewWriter(count), mtime: time.Unix(b.o.Mtime, 0)}
	for _, dir := range []string{"dev", "modules", "newroot", "proc", "run", "sys", "sysroot"} {
		if err := a.dir(dir); err != nil {
			return Report{}, err
		}
	}
	if b.o.Cmdline != "" {
		if err := a.file("cmdline", 0o644, []byte(b.o.Cmdline+"\n")); err != nil {
			return Report{}, err
		}
	}
	if err := a.file("init", 0o755, b.init); err != nil {
		return Report{}, err
	}
	var list bytes.Buffer
	if err := b.list.Write(&list); err != nil {
		return Report{}, err
	}
	if err := a.file(strings.TrimPrefix(modules.ListPath, "/"), 0o644, list.Bytes()); err != nil {
		return Report{}, err
	}
	var r Report
	for _, m := range b.list.Modules {
		file, node, err := b.moduleNode(m.Name)
		if err != nil {
			return Report{}, err
		}
		data, err := readModule(ctx, file, node)
		if err != nil {
			return Report{}, fmt.Errorf("module %q: %w", file, err)
		}
		if err := a.file(strings.TrimPrefix(modules.Dir, "/")+"/"+m.Name+".ko", 0o644, data); err != nil {
			return Report{}, err
		}
		r.Modules = append(r.Modules, m.Name)
	}
	if err := a.w.Close(); err != nil {
		return Report{}, err
	}
	r.Size = count.n
	return r, nil
}

// archive writes cpio entries that differ in nothing but what they must.
type archive struct {
	w     *cpio.Writer
	mtime time.Time
}

func (a *archive) dir(name string) error {
	return a.w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeDir | 0o755, Links: 2, ModTime: a.mtime})
}

func (a *archive) file(name string, perm cpio.FileMode, data []byte) error {
	h := &cpio.Header{Name: name, Mode: cpio.TypeReg | perm, Links: 1, ModTime: a.mtime, Size: int64(len(data))}
	if err := a.w.WriteHeader(h); err != nil {
		return err
	}
	_, err := a.w.Write(data)
	return err
}

// counter counts what is written through it, in bytes.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

package install

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
	"github.com/ashlar-os/ashlar/internal/program"
)

// publish makes a release with all that an installation asks an image for.
func publish(site *updatetest.Site, version string) *updatetest.Release {
	return site.Publish(updatetest.Spec{Name: "server", Version: version, Large: 30_000, Tree: func(t *tree.Tree) {
		put := func(path, content string, mode uint32, gid uint32) {
			at := t.Root
			names := strings.Split(path, "/")
			for _, name := range names[:len(names)-1] {
				if at.Child(name) == nil {
					at.Add(&tree.Node{Name: name, Mode: tree.TypeDir | 0o755, Nlink: 1})
				}
				at = at.Child(name)
			}
			at.Add(&tree.Node{Name: names[len(names)-1], Mode: tree.TypeRegular | mode, GID: gid, Nlink: 1, Size: uint64(len(content)), Inline: []byte(content)})
		}
		put("usr/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n", 0o644, 0)
		put("usr/etc/shadow", "root:*:20000:0:99999:7:::\n", 0o640, 42)
		put("usr/etc/group", "root:x:0:\nsudo:x:27:\n", 0o644, 0)
		put("usr/etc/gshadow", "root:*::\nsudo:*::\n", 0o640, 42)
		put("usr/etc/skel/.profile", "umask 022\n", 0o644, 0)
		put("usr/share/zoneinfo/Europe/Berlin", "TZif", 0o644, 0)
		put("usr/lib/ashlar/update.toml", "repository = \"registry.example/acme/server\"\n", 0o644, 0)
		put("usr/lib/systemd/boot/efi/systemd-bootx64.efi", "the loader "+version, 0o644, 0)
	}})
}

// bench is a computer with a medium in it and disks that are files.
type bench struct {
	t    *testing.T
	site *updatetest.Site
	rel  *updatetest.Release
	in   *Installer
	dir  string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, site: updatetest.NewSite(t), dir: t.TempDir()}
	b.insert("1.0.0")
	return b
}

// insert puts a medium of that version in.
func (b *bench) insert(version string) {
	b.rel = publish(b.site, version)
	b.in = &Installer{
		Medium: update.Medium(b.site.WriteMedium(b.rel)), Running: b.rel.Image(), Root: updatetest.Acme().Root(),
		Work: filepath.Join(b.dir, "work"), System: b.dir, Sealer: store.Software,
		esp: fileSystem{"ext4", formatRoot},
	}
}

// disk makes a disk of 4 GB, of which almost nothing takes room.
func (b *bench) disk(name string) Disk {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	f, err := os.Create(path)
	b.must(err)
	b.must(f.Truncate(4 << 30))
	b.must(f.Close())
	return Disk{ID: "file-" + name, Name: name, Path: path, Size: 4 << 30, Sector: 512, Serial: "S" + name}
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// install plans and runs.
func (b *bench) install(a *Answers, disks ...Disk) *Result {
	b.t.Helper()
	plan, err := b.in.Plan(context.Background(), a, disks)
	b.must(err)
	r, err := b.in.Run(context.Background(), plan, nil)
	b.must(err)
	return r
}

// look mounts what was installed, read-only, and shows it as the computer that has
// it; below Root are sysroot/ and efi/.
func (b *bench) look(d Disk, do func(c *updatetest.Computer)) {
	b.t.Helper()
	ctx := context.Background()
	_, _, ok := FindAshlar(d.Path, d.Sector)
	if !ok {
		b.t.Fatal("the disk has no Ashlar")
	}
	dev, err := openDevice(&d)
	b.must(err)
	defer func() { b.must(dev.close()) }()
	root := b.t.TempDir()
	f, err := os.Open(d.Path)
	b.must(err)
	defer f.Close()
	table, err := gpt.Read(f, d.Sector)
	b.must(err)
	for i, at := range []string{"efi", "sysroot"} {
		part := table.Partitions[i]
		name, err := dev.partition(ctx, Partition{Number: part.Number, Start: part.Start, Size: part.Size})
		b.must(err)
		dir := filepath.Join(root, at)
		b.must(os.Mkdir(dir, 0o755))
		b.run("mount", name, dir)
		defer func() { b.run("umount", dir) }()
	}
	do(updatetest.At(b.t, root))
}

func (b *bench) run(args ...string) string {
	b.t.Helper()
	out, err := program.Run(context.Background(), program.Command{Args: args})
	b.must(err)
	return string(out)
}

func answers() *Answers {
	return &Answers{
		Schema: 1,
		System: System{Hostname: "box", Locale: "de_DE.UTF-8", Keyboard: "de-nodeadkeys", Timezone: "Europe/Berlin"},
		User: User{Name: "ada", FullName: "Ada Lovelace", Password: "secret", SSHKeys: []string{
			"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJq0f3mlEYhYp0RkTX0e6tXPxtwdwSMWQJQ2x5vZ1yR9 ada@box"}},
	}
}

package updatetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// Computer is a machine as its disk and its memory: below Root are sysroot/,
// efi/ and the little of proc/ that says what runs.
type Computer struct {
	Root    string
	Running verity.Digest

	t testing.TB
}

// NewComputer makes a computer with an empty disk.
func NewComputer(t testing.TB) *Computer {
	t.Helper()
	c := &Computer{Root: t.TempDir(), t: t}
	_, err := store.Create(c.path("sysroot/ashlar"))
	must(t, err)
	for _, dir := range []string{"efi/EFI/Linux", "proc/1", "usr/etc", "etc"} {
		must(t, os.MkdirAll(c.path(dir), 0o755))
	}
	must(t, os.WriteFile(c.path("proc/1/mountinfo"),
		[]byte("1 0 0:1 / / ro - overlay ashlar ro,verity=require\n"), 0o644))
	return c
}

// At is a computer whose disk is the copy root, off.
func At(t testing.TB, root string) *Computer { return &Computer{Root: root, t: t} }

func (c *Computer) path(name string) string     { return filepath.Join(c.Root, name) }
func (c *Computer) inStore(name string) string  { return c.path(inStore + name) }
func (c *Computer) bootFile(name string) string { return c.path(bootFiles + "/" + name) }

// Store opens the computer's store.
func (c *Computer) Store() *store.Store {
	c.t.Helper()
	s, err := store.Open(c.inStore(""))
	must(c.t, err)
	s.Sealer = store.Software
	return s
}

// ESP opens the computer's ESP.
func (c *Computer) ESP() *esp.ESP {
	c.t.Helper()
	p, err := esp.Open(c.path("efi"))
	must(c.t, err)
	return p
}

// Install puts a release on the disk, as writing a disk image does.
func (c *Computer) Install(rel *Release, origin store.Origin) {
	c.t.Helper()
	ctx, s := context.Background(), c.Store()
	for d, b := range rel.Objects {
		must(c.t, s.PutObject(ctx, d, int64(len(b)), bytes.NewReader(b)))
	}
	must(c.t, s.PutImage(ctx, rel.Image(), int64(len(rel.EROFS)), bytes.NewReader(rel.EROFS)))
	document, err := rel.Document.Encode()
	must(c.t, err)
	sum := sha256.Sum256(document)
	must(c.t, s.WriteDeployment(&store.Deployment{
		Schema: store.Schema, Image: rel.Image(), Name: rel.Name, Version: rel.Version,
		Release: "sha256:" + hex.EncodeToString(sum[:]), Origin: origin,
	}))
	must(c.t, s.WriteDocument(rel.Image(), document))
	must(c.t, os.WriteFile(c.bootFile("ashlar_"+rel.Version+"_"+rel.Image().String()[:12]+".efi"), rel.UKI, 0o644))
}

// BootFiles lists EFI/Linux.
func (c *Computer) BootFiles() []string {
	c.t.Helper()
	list, err := os.ReadDir(c.bootFile(""))
	must(c.t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// WouldBoot is the image that the loader would start now; zero for none.
func (c *Computer) WouldBoot() verity.Digest {
	c.t.Helper()
	_, d, err := Choice(dirDisk(c.Root))
	must(c.t, err)
	return d
}

// Whole says what is missing of an image for it to boot: it reads every byte.
func (c *Computer) Whole(d verity.Digest) error { return Whole(dirDisk(c.Root), d) }

// PowerOn boots: the loader counts down and starts its first choice, which
// comes up when it is whole and good allows it, and else starts again. It
// returns what came up, with /etc merged if that was its first boot.
func (c *Computer) PowerOn(good func(verity.Digest) bool) verity.Digest {
	c.t.Helper()
	for range 20 {
		list, err := options(dirDisk(c.Root))
		must(c.t, err)
		if len(list) == 0 {
			c.t.Fatal("there is nothing to boot")
		}
		o := list[0]
		if o.left > 0 {
			name := fmt.Sprintf("%s+%d-%d.efi", o.stem, o.left-1, o.done+1)
			must(c.t, os.Rename(c.bootFile(o.file), c.bootFile(name)))
			o.file, o.left = name, o.left-1
		}
		d, err := verity.Parse(o.image)
		must(c.t, err)
		if err := c.Whole(d); err != nil {
			must(c.t, os.WriteFile(c.inStore("deployments/"+o.image+"/failure"), []byte(err.Error()+"\n"), 0o644))
			continue
		}
		c.firstBoot(d)
		if good != nil && !good(d) {
			if o.left < 0 {
				c.t.Fatalf("%s is not counted and does not come up: the machine would try for ever", o.file)
			}
			continue
		}
		if o.left >= 0 {
			must(c.t, os.Rename(c.bootFile(o.file), c.bootFile(o.stem+".efi")))
		}
		c.Running = d
		c.showKeys(d)
		must(c.t, os.WriteFile(c.path("proc/cmdline"), []byte("rw ashlar.image="+o.image+" quiet\n"), 0o644))
		return d
	}
	c.t.Fatalf("the machine does not come up: %q", c.BootFiles())
	return verity.Digest{}
}

// rootPath is where the running system has the keys that it believes.
const rootPath = "usr/lib/ashlar/trust/root.json"

// showKeys puts the file of that name where the running image's root would show it.
func (c *Computer) showKeys(d verity.Digest) {
	c.t.Helper()
	b, err := os.ReadFile(c.inStore("images/" + d.String()))
	must(c.t, err)
	image, err := composefs.ReadBytes(b)
	must(c.t, err)
	must(c.t, os.RemoveAll(c.path(rootPath)))
	n := image.Lookup("/" + rootPath)
	if n == nil {
		return
	}
	if b, err = os.ReadFile(c.inStore("objects/" + composefs.ObjectPath(n.Digest))); err == nil {
		must(c.t, os.MkdirAll(filepath.Dir(c.path(rootPath)), 0o755))
		err = os.WriteFile(c.path(rootPath), b, 0o644)
	}
	must(c.t, err)
}

// Keys are the keys that the running system believes; nil for none.
func (c *Computer) Keys() []byte {
	b, err := os.ReadFile(c.path(rootPath))
	if err != nil {
		return nil
	}
	return b
}

// firstBoot does what ashlar-init does to /etc: it carries over what was
// changed, unless a report says that this was done.
func (c *Computer) firstBoot(d verity.Digest) {
	c.t.Helper()
	dep, err := describe(dirDisk(c.Root), d)
	must(c.t, err)
	upper, report := c.Etc(d), c.inStore("deployments/"+d.String()+"/etc.json")
	if _, err := os.Stat(report); dep.EtcFrom == "" || err == nil {
		must(c.t, os.MkdirAll(upper, 0o755))
		return
	}
	must(c.t, os.RemoveAll(upper))
	base, err := verity.Parse(dep.EtcFrom)
	must(c.t, err)
	if err := os.CopyFS(upper, os.DirFS(c.Etc(base))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	must(c.t, os.MkdirAll(upper, 0o755))
	must(c.t, os.WriteFile(report, []byte("{}\n"), 0o644))
}

// Etc is the directory of a deployment's changes of /etc.
func (c *Computer) Etc(d verity.Digest) string {
	return c.inStore("deployments/" + d.String() + "/etc")
}

// Images lists the images in the store.
func (c *Computer) Images() []string {
	c.t.Helper()
	list, err := os.ReadDir(c.inStore("images"))
	must(c.t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// Objects counts the objects in the store.
func (c *Computer) Objects() (n int) {
	c.t.Helper()
	must(c.t, filepath.WalkDir(c.inStore("objects"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			n++
		}
		return err
	}))
	return n
}

// Leftovers lists what a run should have cleared away: files in tmp/, and boot
// files that are not complete.
func (c *Computer) Leftovers() []string {
	c.t.Helper()
	list, err := os.ReadDir(c.inStore("tmp"))
	must(c.t, err)
	var names []string
	for _, e := range list {
		names = append(names, "tmp/"+e.Name())
	}
	for _, name := range c.BootFiles() {
		if strings.HasSuffix(name, ".ashlar-partial") {
			names = append(names, name)
		}
	}
	return names
}

// Copy copies the disk as it is at this moment, as a power cut would leave it,
// and returns the computer that has the copy.
func (c *Computer) Copy() *Computer {
	c.t.Helper()
	dir := c.t.TempDir()
	out, err := exec.Command("cp", "-a", c.Root+"/.", dir).CombinedOutput()
	// A file that went while it was copied was going at that moment.
	if err != nil && !bytes.Contains(out, []byte("No such file")) {
		c.t.Fatalf("copying the disk: %v\n%s", err, out)
	}
	return &Computer{Root: dir, Running: c.Running, t: c.t}
}

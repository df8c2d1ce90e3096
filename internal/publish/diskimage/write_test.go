package diskimage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

const created = "2026-01-02T03:04:05Z"

// testContent is a release of count objects below dir, with the permissions
// and times that whoever built it happened to have.
func testContent(t *testing.T, dir string, count int, mode os.FileMode) Content {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	write := func(path string, size int) {
		t.Helper()
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, mode); err != nil {
			t.Fatal(err)
		}
	}
	digest := func() (d verity.Digest) {
		for i := range d {
			d[i] = byte(r.Uint32())
		}
		return d
	}
	c := Content{
		EROFS: filepath.Join(dir, "image.erofs"), UKI: filepath.Join(dir, "boot file.efi"),
		Loader: bytes.Repeat([]byte("loader"), 1000), ObjectDir: filepath.Join(dir, "objects"),
		DocumentBytes:  []byte("the document\n"),
		DocumentDigest: "sha256:" + strings.Repeat("5", 64),
	}
	image := digest()
	c.Release = &release.Document{Schema: 1, ID: "test-1.2", Name: "test", Version: "1.2", Created: created,
		Images: []release.Image{{Role: "root", Digest: image}}}
	write(c.EROFS, 20_000)
	write(c.UKI, 3_000_000)
	for i := range count {
		d := digest()
		name := d.String()
		size := 65 + r.IntN(20_000)
		if i == 0 {
			size = 9_000_000
		}
		write(filepath.Join(c.ObjectDir, name[:2], name[2:]), size)
		c.Objects = append(c.Objects, tree.Object{Digest: d, Size: uint64(size)})
	}
	return c
}

// tool runs an outside oracle and returns all that it says; it must succeed.
func tool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// cut copies one partition into a file of its own, for checkers that know no offsets.
func cut(t *testing.T, disk string, p gpt.Partition) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), p.Name)
	tool(t, "dd", "if="+disk, "of="+out, "bs=1M", "conv=sparse", "status=none",
		fmt.Sprintf("skip=%d", p.Start/mib), fmt.Sprintf("count=%d", p.Size/mib))
	if err := os.Truncate(out, p.Size); err != nil {
		t.Fatal(err)
	}
	return out
}

func smallDisk() Options {
	return Options{ESPSize: 64 * mib, Size: 512 * mib, Origin: Origin{Repository: "registry.example/acme/test", Channel: "stable"}}
}

func TestDiskSatisfiesTheToolsThatKnowBetter(t *testing.T) {
	dir := t.TempDir()
	c := testContent(t, filepath.Join(dir, "with @@1 and ?offset=2"), 300, 0o600)
	o := smallDisk()
	disk := filepath.Join(dir, "disk, @@0?.raw")
	if err := Write(context.Background(), disk, c, o); err != nil {
		t.Fatal(err)
	}
	j, err := newJob(c, o)
	if err != nil {
		t.Fatal(err)
	}

	if out := tool(t, "sgdisk", "-v", disk); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v: %s", out)
	}
	var table struct {
		PartitionTable struct {
			Label      string
			Partitions []struct {
				Start, Size      int64
				Type, UUID, Name string
			}
		}
	}
	out, err := exec.Command("sfdisk", "--json", disk).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &table); err != nil {
		t.Fatal(err)
	}
	if n := len(table.PartitionTable.Partitions); table.PartitionTable.Label != "gpt" || n != 2 {
		t.Fatalf("sfdisk sees %d partitions: %s", n, out)
	}
	for i, p := range []gpt.Partition{j.layout.esp, j.layout.root} {
		got := table.PartitionTable.Partitions[i]
		if got.Start*512 != p.Start || got.Size*512 != p.Size || got.Name != p.Name ||
			!strings.EqualFold(got.Type, p.Type.String()) || !strings.EqualFold(got.UUID, p.ID.String()) {
			t.Errorf("partition %d: sfdisk sees %+v, written was %+v", i+1, got, p)
		}
	}

	esp := cut(t, disk, j.layout.esp)
	tool(t, "fsck.vfat", "-n", esp)
	got := strings.Fields(tool(t, "mdir", "-i", esp, "-/", "-b", "::/"))
	for _, want := range []string{"::/EFI/BOOT/BOOTX64.EFI", "::/EFI/systemd/systemd-bootx64.efi", "::/loader/loader.conf",
		"::/EFI/Linux/ashlar_1.2_" + c.Release.Root().Digest.String()[:12] + ".efi"} {
		if !strings.Contains(strings.Join(got, " ")+" ", want+" ") {
			t.Errorf("the ESP lacks %s: %q", want, got)
		}
	}
	uki, err := os.ReadFile(c.UKI)
	if err != nil {
		t.Fatal(err)
	}
	if tool(t, "mtype", "-i", esp, "::/EFI/Linux/"+c.bootFile()) != string(uki) {
		t.Error("the boot file on the ESP differs from the release's")
	}

	root := cut(t, disk, j.layout.root)
	tool(t, "e2fsck", "-fn", root)
	if features := tool(t, "debugfs", "-R", "show_super_stats -h", root); !strings.Contains(features, " verity") {
		t.Error("the root file system lacks the feature verity")
	}
	checkTree(t, c, root)
}

// checkTree has debugfs copy the root file system out and compares it.
func checkTree(t *testing.T, c Content, root string) {
	t.Helper()
	out := t.TempDir()
	tool(t, "debugfs", "-R", "rdump /ashlar "+out, root)
	store := filepath.Join(out, "ashlar")
	modes := map[string]os.FileMode{
		"objects": os.ModeDir | 0o700, "images": os.ModeDir | 0o700, "tmp": os.ModeDir | 0o700,
		"deployments": os.ModeDir | 0o755, "var": os.ModeDir | 0o755, "trust": os.ModeDir | 0o755, "unsealed": 0o644,
	}
	digest := c.Release.Root().Digest.String()
	modes["deployments/"+digest] = os.ModeDir | 0o755
	for name, mode := range modes {
		info, err := os.Stat(filepath.Join(store, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode() != mode {
			t.Errorf("/ashlar/%s has mode %v, want %v", name, info.Mode(), mode)
		}
	}
	same := func(name, source string) {
		t.Helper()
		a, err := os.ReadFile(filepath.Join(store, name))
		b, err2 := os.ReadFile(source)
		if err := errors.Join(err, err2); err != nil {
			t.Error(err)
		} else if !bytes.Equal(a, b) {
			t.Errorf("/ashlar/%s differs from its source", name)
		}
		info, err := os.Stat(filepath.Join(store, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode() != 0o444 || info.ModTime().UTC().Format(time.RFC3339) != created {
			t.Errorf("/ashlar/%s has mode %v and time %v", name, info.Mode(), info.ModTime().UTC())
		}
	}
	same("images/"+digest, c.EROFS)
	for _, obj := range c.Objects {
		name := objectName(obj.Digest)
		same("objects/"+name, filepath.Join(c.ObjectDir, name))
	}
	data, err := os.ReadFile(filepath.Join(store, "deployments", digest, "deployment.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "schema": 1,
  "image": "` + digest + `",
  "name": "test",
  "version": "1.2",
  "release": "sha256:` + strings.Repeat("5", 64) + `",
  "origin": {
    "repository": "registry.example/acme/test",
    "channel": "stable"
  },
  "etc_from": "",
  "good_boots_seq": 0,
  "pinned": false,
  "created": "` + created + `"
}
`
	if string(data) != want {
		t.Errorf("deployment.json is %s, want %s", data, want)
	}
	document, err := os.ReadFile(filepath.Join(store, "deployments", digest, "release.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(document, c.DocumentBytes) {
		t.Errorf("release.json is %q, want %q", document, c.DocumentBytes)
	}
	if owner := tool(t, "debugfs", "-R", "stat /ashlar/images/"+digest, root); !strings.Contains(owner, "User:     0   Group:     0 ") {
		t.Errorf("the image is not root's: %s", owner)
	}
}

// TestTwoRunsGiveTheSameBytes builds from two copies that differ in all that
// the disk must not depend on: place, permissions, times, and the clock.
func TestTwoRunsGiveTheSameBytes(t *testing.T) {
	var disks []string
	for i, mode := range []os.FileMode{0o600, 0o755} {
		dir := t.TempDir()
		c := testContent(t, dir, 50, mode)
		disk := filepath.Join(dir, fmt.Sprint("disk", i))
		if err := Write(context.Background(), disk, c, smallDisk()); err != nil {
			t.Fatal(err)
		}
		disks = append(disks, disk)
		time.Sleep(1100 * time.Millisecond) // the clock is what must not matter, and FAT and ext4 count seconds
	}
	tool(t, "cmp", disks[0], disks[1])

	var st syscall.Stat_t
	if err := syscall.Stat(disks[0], &st); err != nil {
		t.Fatal(err)
	}
	if used := st.Blocks * 512; used > 32*mib {
		t.Errorf("the image of 13 MB of content takes %d bytes: it is not sparse", used)
	}

	dir := t.TempDir()
	o := smallDisk()
	o.Seed = "another machine"
	other := filepath.Join(dir, "other")
	if err := Write(context.Background(), other, testContent(t, dir, 50, 0o600), o); err != nil {
		t.Fatal(err)
	}
	if a, b := tool(t, "sfdisk", "--disk-id", disks[0]), tool(t, "sfdisk", "--disk-id", other); a == b {
		t.Errorf("two seeds give one disk id, %s", a)
	}
}

func TestQCOW2HoldsTheSameDisk(t *testing.T) {
	dir := t.TempDir()
	c := testContent(t, dir, 5, 0o644)
	o := smallDisk()
	raw, qcow2 := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "disk.qcow2")
	if err := Write(context.Background(), raw, c, o); err != nil {
		t.Fatal(err)
	}
	o.Format = QCOW2
	if err := Write(context.Background(), qcow2, c, o); err != nil {
		t.Fatal(err)
	}
	tool(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, qcow2)
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		change func(c *Content, o *Options)
		want   string
	}{
		"ESP too small for three boot files": {func(c *Content, o *Options) {
			c.UKI = filepath.Join(t.TempDir(), "uki")
			if err := os.WriteFile(c.UKI, make([]byte, 20<<20), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "boot files of three deployments, each of 20 MiB"},
		"ESP not whole MiB": {func(_ *Content, o *Options) { o.ESPSize = 64*mib + 512 }, "whole MiB"},
		"disk too small":    {func(_ *Content, o *Options) { o.Size = 100 * mib }, "a disk of 100 MiB is too small"},
		"disk too large":    {func(_ *Content, o *Options) { o.Size = 1 << 60 }, "too large"},
		"object missing":    {func(c *Content, _ *Options) { c.Objects[1].Digest[0] ^= 1 }, "no such file"},
		"object too short":  {func(c *Content, _ *Options) { c.Objects[1].Size++ }, "that the image says"},
		"no root image":     {func(c *Content, _ *Options) { c.Release.Images[0].Role = "app" }, "no image with role"},
		"created":           {func(c *Content, _ *Options) { c.Release.Created = "yesterday" }, `"created"`},
		"format":            {func(_ *Content, o *Options) { o.Format = "vmdk" }, `unknown format "vmdk"`},
		"version":           {func(c *Content, _ *Options) { c.Release.Version = "../1" }, `version "../1"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c, o := testContent(t, t.TempDir(), 3, 0o644), smallDisk()
			test.change(&c, &o)
			err := Write(context.Background(), filepath.Join(dir, "disk"), c, o)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
			expectEmpty(t, dir)
		})
	}
}

// TestFailureLeavesNothing breaks an object between planning and writing, and
// interrupts: debugfs ends with 0 for the first.
func TestFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	c := testContent(t, t.TempDir(), 3, 0o644)
	j, err := newJob(c, smallDisk())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(c.ObjectDir, j.objects[1])); err != nil {
		t.Fatal(err)
	}
	err = j.write(context.Background(), filepath.Join(dir, "disk"), smallDisk())
	if err == nil || !strings.Contains(err.Error(), "filling the root file system: debugfs: ") {
		t.Errorf("an object vanished and the error is %v", err)
	}
	expectEmpty(t, dir)

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Write(ctx, filepath.Join(dir, "disk"), testContent(t, t.TempDir(), 3, 0o644), smallDisk()); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted, and the error is %v", err)
	}
	expectEmpty(t, dir)
}

func TestNoSpace(t *testing.T) {
	dir := t.TempDir()
	if err := checkSpace(dir, 1); err != nil {
		t.Error(err)
	}
	if err := checkSpace(dir, 1<<60); err == nil || !strings.Contains(err.Error(), "the disk image needs 1152921504606 MB") {
		t.Errorf("the error is %v", err)
	}
}

func expectEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s was left behind", e.Name())
	}
}

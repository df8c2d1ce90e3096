package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// FAT as the installer makes it is whole, and large enough to be FAT32.
func TestFormatESP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "esp")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, espSize); err != nil {
		t.Fatal(err)
	}
	if err := formatESP(context.Background(), path); err != nil {
		t.Fatal(err)
	}
	if _, err := program.Run(context.Background(), program.Command{Args: []string{"fsck.vfat", "-n", path}}); err != nil {
		t.Error(err)
	}
	head := make([]byte, 512)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(head, 0); err != nil || string(head[82:90]) != "FAT32   " || string(head[71:81]) != "ASHLAR-ESP" {
		t.Errorf("the ESP begins with %q (%v)", head[:96], err)
	}
}

// A passphrase and the recovery key open the encrypted partition, and nothing else.
func TestEncrypt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 64<<20); err != nil {
		t.Fatal(err)
	}
	ctx, in := context.Background(), &Installer{pbkdf: []string{"--pbkdf-force-iterations", "4", "--pbkdf-memory", "32"}}
	recovery, err := in.encrypt(ctx, path, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if len(recovery) != 71 || strings.Count(recovery, "-") != 7 {
		t.Errorf("the recovery key is %q", recovery)
	}
	if yes, err := isEncrypted(path); err != nil || !yes {
		t.Errorf("encrypted: %v, %v", yes, err)
	}
	for word, want := range map[string]bool{"correct horse": true, recovery: true, "wrong horse": false} {
		_, err := program.Run(ctx, program.Command{
			Args: []string{"cryptsetup", "open", "--test-passphrase", "--type", "luks2", "--key-file", "-", path}, Stdin: strings.NewReader(word),
		})
		if (err == nil) != want {
			t.Errorf("%q opens it: %v", word, err)
		}
	}
	out, err := program.Run(ctx, program.Command{Args: []string{"cryptsetup", "luksDump", path}})
	if err != nil || strings.Count(string(out), "argon2id") != 2 {
		t.Errorf("%s (%v)", out, err)
	}
}

// An empty disk becomes a machine that boots the image that was signed, with the
// settings that were wished for, and another disk is left as it is.
func TestInstall(t *testing.T) {
	b := newBench(t)
	disk, other := b.disk("a"), b.disk("b")
	b.must(os.WriteFile(other.Path, []byte("somebody's data"), 0o644))
	other.Content = "data of an unknown kind"
	a := answers()
	a.Disk.ID = disk.ID
	r := b.install(a, other, disk)
	if v := r.Report.Verified; v == nil || v.Image != b.rel.Image() || !v.Equal || v.Objects != len(b.rel.Objects) {
		t.Errorf("verified: %+v", v)
	}
	if got, err := os.ReadFile(other.Path); err != nil || string(got) != "somebody's data" {
		t.Errorf("the other disk holds %q now (%v)", got, err)
	}
	if list, err := os.ReadDir(filepath.Join(b.in.Work, "root")); err != nil || len(list) > 0 {
		t.Errorf("something is mounted still: %v, %v", list, err)
	}
	b.run("sfdisk", "--verify", disk.Path)
	b.look(disk, func(c *updatetest.Computer) {
		if got := c.WouldBoot(); got != b.rel.Image() {
			t.Errorf("%s would boot", got)
		}
		if err := c.Whole(b.rel.Image()); err != nil {
			t.Error(err)
		}
		for _, name := range []string{"EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"} {
			if got, err := os.ReadFile(filepath.Join(c.Root, "efi", name)); err != nil || string(got) != "the loader 1.0.0" {
				t.Errorf("%s is %q (%v)", name, got, err)
			}
		}
		b.checkSettings(c)
		b.checkReport(c, disk)
		dep, err := c.Store().Deployment(b.rel.Image())
		b.must(err)
		if dep.Origin != (store.Origin{Repository: "registry.example/acme/server", Channel: "stable"}) || dep.EtcFrom != "" {
			t.Errorf("deployment: %+v", dep)
		}
		accepted, err := os.ReadDir(filepath.Join(c.Store().TrustPath(), "server"))
		if err != nil || len(accepted) == 0 {
			t.Errorf("nothing is accepted: %v", err)
		}
	})
}

func (b *bench) checkSettings(c *updatetest.Computer) {
	t := b.t
	upper := c.Store().EtcUpper(b.rel.Image())
	for name, want := range map[string]string{
		"hostname": "box\n", "locale.conf": "LANG=de_DE.UTF-8\n", "vconsole.conf": "KEYMAP=de-nodeadkeys\nXKBLAYOUT=de\nXKBVARIANT=nodeadkeys\n",
		"passwd": "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000:Ada Lovelace:/home/ada:/bin/bash\n",
		"group":  "root:x:0:\nsudo:x:27:ada\nada:x:1000:\n", "gshadow": "root:*::\nsudo:*::ada\nada:!::\n",
	} {
		if got, err := os.ReadFile(filepath.Join(upper, name)); err != nil || string(got) != want {
			t.Errorf("/etc/%s is %q (%v), want %q", name, got, err, want)
		}
	}
	if got, err := os.Readlink(filepath.Join(upper, "localtime")); err != nil || got != "../usr/share/zoneinfo/Europe/Berlin" {
		t.Errorf("/etc/localtime leads to %q (%v)", got, err)
	}
	shadow, err := os.ReadFile(filepath.Join(upper, "shadow"))
	if err != nil || !strings.HasPrefix(string(shadow), "root:*:20000:0:99999:7:::\nada:$6$rounds=300000$") {
		t.Errorf("/etc/shadow is %q (%v)", shadow, err)
	}
	home := filepath.Join(c.Store().VarPath(), "home/ada")
	for _, f := range []struct{ path, want string }{
		{filepath.Join(upper, "shadow"), "640 0 42"}, {filepath.Join(upper, "passwd"), "644 0 0"}, {home, "700 1000 1000"},
		{filepath.Join(home, ".ssh"), "700 1000 1000"}, {filepath.Join(home, ".ssh/authorized_keys"), "600 1000 1000"}, {filepath.Join(home, ".profile"), "644 1000 1000"},
	} {
		if got := strings.TrimSpace(b.run("stat", "-c", "%a %u %g", f.path)); got != f.want {
			t.Errorf("%s is %s, want %s", f.path, got, f.want)
		}
	}
}

func (b *bench) checkReport(c *updatetest.Computer, disk Disk) {
	t := b.t
	text, err := os.ReadFile(filepath.Join(c.Store().VarPath(), "log/ashlar/install.json"))
	b.must(err)
	var r struct {
		Plan     struct{ Disk struct{ ID string } }
		Verified Verified
		Finished string
	}
	b.must(json.Unmarshal(text, &r))
	if r.Plan.Disk.ID != disk.ID || r.Verified.Image != b.rel.Image() || r.Finished == "" {
		t.Errorf("the report is %s", text)
	}
	if strings.Contains(string(text), "secret") {
		t.Error("the report tells the password")
	}
	events, err := history.Read(c.Store().Dir)
	b.must(err)
	if !slices.ContainsFunc(events, func(e history.Event) bool { return e.Kind == history.Installed && e.Image == b.rel.Image() }) {
		t.Errorf("history: %+v", events)
	}
}

// The wrong disk is never taken: not one of several, not one with something on it,
// not one that is refused, whatever the answers leave out.
func TestWrongDisk(t *testing.T) {
	b := newBench(t)
	empty, second, full := b.disk("a"), b.disk("b"), b.disk("c")
	full.Content = "a partition table with 3 partitions"
	medium := b.disk("m")
	medium.Refused = "this computer runs from it"
	small := b.disk("s")
	small.Size = 1 << 30
	twin := empty
	for _, c := range []struct {
		name  string
		disk  DiskAnswer
		disks []Disk
		want  string // an error; empty: the disk is taken
	}{
		{"the only one, empty", DiskAnswer{}, []Disk{empty, medium}, ""},
		{"two, none named", DiskAnswer{}, []Disk{empty, second}, "there are 2 disks, and none is named"},
		{"an empty and a full one, none named", DiskAnswer{}, []Disk{empty, full}, "there are 2 disks, and none is named"},
		{"the only one, full", DiskAnswer{}, []Disk{full}, "the only disk is not empty"},
		{"the only one, full, erase alone", DiskAnswer{Erase: full.ID}, []Disk{full}, "the only disk is not empty"},
		{"named, full", DiskAnswer{ID: full.ID}, []Disk{full}, "is not empty: "},
		{"named, full, another erased", DiskAnswer{ID: full.ID, Erase: empty.ID}, []Disk{full, empty}, "what may be erased is"},
		{"named, full, erased by its id", DiskAnswer{ID: full.ID, Erase: full.ID}, []Disk{full, empty}, ""},
		{"named, full, erased by serial number", DiskAnswer{ID: full.ID, Erase: full.Serial}, []Disk{full}, ""},
		{"named, full, erased by the name of today", DiskAnswer{ID: full.ID, Erase: full.Name}, []Disk{full}, "what may be erased"},
		{"named by the name of today", DiskAnswer{ID: "/dev/sda"}, []Disk{empty}, "there is no disk"},
		{"not there", DiskAnswer{ID: "ata-other"}, []Disk{empty}, `there is no disk "ata-other"`},
		{"two of that id", DiskAnswer{ID: empty.ID}, []Disk{empty, twin}, "2 disks are"},
		{"the medium", DiskAnswer{ID: medium.ID, Erase: medium.ID}, []Disk{medium}, "this computer runs from it"},
		{"only the medium", DiskAnswer{}, []Disk{medium}, "there is no disk to install to"},
		{"too small", DiskAnswer{ID: small.ID}, []Disk{small}, "this release needs"},
		{"nothing to keep", DiskAnswer{ID: empty.ID, KeepVar: true}, []Disk{empty}, "has no Ashlar whose /var could be kept"},
	} {
		a := answers()
		a.Disk = c.disk
		_, err := b.in.Plan(context.Background(), a, c.disks)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error is %v, want one with %q", c.name, err, c.want)
		}
	}
}

// A plan is made of a medium that proves itself, and of wishes that the image can meet.
func TestRefusedPlans(t *testing.T) {
	b := newBench(t)
	disk := b.disk("a")
	for _, c := range []struct {
		name, want string
		change     func(in *Installer, a *Answers)
	}{
		{"papers of another image", "and its papers are of", func(in *Installer, _ *Answers) { in.Running[0] ^= 1 }},
		{"another publisher", "cannot trust this medium", func(in *Installer, _ *Answers) { in.Root = updatetest.Stranger().Root() }},
		{"no papers", "cannot trust this medium", func(in *Installer, _ *Answers) { in.Medium.Trust = nil }},
		{"another architecture", "cannot trust this medium", func(in *Installer, _ *Answers) { in.Arch = "riscv64" }},
		{"time zone", `no time zone "Europe/Atlantis"`, func(_ *Installer, a *Answers) { a.System.Timezone = "Europe/Atlantis" }},
		{"name that is taken", `has "sudo" in its "group" already`, func(_ *Installer, a *Answers) { a.User.Name = "sudo" }},
		{"wrong answers", "system.hostname", func(_ *Installer, a *Answers) { a.System.Hostname = "-" }},
	} {
		in, a := *b.in, answers()
		c.change(&in, a)
		if _, err := in.Plan(context.Background(), a, []Disk{disk}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one with %q", c.name, err, c.want)
		}
	}
}

// The system is replaced, /var stays; and what is there of the new image already is
// not copied again.
func TestKeepVar(t *testing.T) {
	b := newBench(t)
	disk := b.disk("a")
	b.install(answers(), disk)
	old := b.rel
	b.look(disk, func(c *updatetest.Computer) {
		b.must(os.WriteFile(filepath.Join(c.Store().VarPath(), "home/ada/thesis"), []byte("years of work"), 0o600))
		b.must(os.WriteFile(filepath.Join(c.Store().EtcUpper(old.Image()), "motd"), []byte("old"), 0o644))
	})
	first := b.in
	b.insert("2.0.0")
	disk.Content = "a partition table with 2 partitions"
	a := answers()
	a.Disk = DiskAnswer{ID: disk.ID, KeepVar: true}
	a.System.Hostname = "newbox"
	b.install(a, disk)
	b.look(disk, func(c *updatetest.Computer) {
		if got := c.WouldBoot(); got != b.rel.Image() || len(c.BootFiles()) != 1 {
			t.Errorf("%s would boot, of %q", got, c.BootFiles())
		}
		if err := c.Whole(b.rel.Image()); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(filepath.Join(c.Store().VarPath(), "home/ada/thesis")); err != nil || string(got) != "years of work" {
			t.Errorf("what was kept is %q (%v)", got, err)
		}
		if got := c.Images(); len(got) != 1 || c.Objects() != len(b.rel.Objects) {
			t.Errorf("images %q, %d objects", got, c.Objects())
		}
		upper := c.Store().EtcUpper(b.rel.Image())
		if _, err := os.Lstat(filepath.Join(upper, "motd")); err == nil {
			t.Error("/etc of the old system is here")
		}
		if got, _ := os.ReadFile(filepath.Join(upper, "hostname")); string(got) != "newbox\n" {
			t.Errorf("host name %q", got)
		}
	})
	// A medium from before is refused, and the machine boots as it did.
	newer := b.in
	b.in = first
	plan, err := b.in.Plan(context.Background(), a, []Disk{disk})
	b.must(err)
	if _, err := b.in.Run(context.Background(), plan, nil); !errors.Is(err, trust.ErrRollback) {
		t.Errorf("with an older medium: %v", err)
	}
	b.in = newer
	b.look(disk, func(c *updatetest.Computer) {
		if got := c.WouldBoot(); got != b.rel.Image() {
			t.Errorf("%s would boot", got)
		}
	})
	// Started over, nothing of it is left.
	a.Disk = DiskAnswer{ID: disk.ID, Erase: disk.ID}
	b.install(a, disk)
	b.look(disk, func(c *updatetest.Computer) {
		if _, err := os.Lstat(filepath.Join(c.Store().VarPath(), "home/ada/thesis")); err == nil {
			t.Error("a file of the old /var is here")
		}
	})
}

// Interrupted anywhere, the disk does not boot, and the medium installs again.
func TestInterrupted(t *testing.T) {
	b := newBench(t)
	disk := b.disk("a")
	steps := 0
	for stop := 1; ; stop++ {
		ctx, cancel := context.WithCancel(context.Background())
		steps = 0
		b.in.Log = func(string) {
			if steps++; steps == stop {
				cancel()
			}
		}
		plan, err := b.in.Plan(ctx, answers(), []Disk{disk})
		b.must(err)
		_, err = b.in.Run(ctx, plan, nil)
		cancel()
		if err == nil {
			break
		}
		if _, _, ok := FindAshlar(disk.Path, disk.Sector); ok {
			b.look(disk, func(c *updatetest.Computer) {
				if list, err := filepath.Glob(filepath.Join(c.Root, "efi/EFI/*/*x64.efi")); err != nil || len(list) > 0 {
					t.Errorf("after step %d there is a loader: %q", stop, list)
				}
			})
		}
	}
	if steps != 6 {
		t.Errorf("%d steps were cut", steps)
	}
	b.look(disk, func(c *updatetest.Computer) {
		if err := c.Whole(b.rel.Image()); err != nil {
			t.Error(err)
		}
	})
}

// What the disk gives back decides, and not what was written to it.
func TestBadDisk(t *testing.T) {
	b := newBench(t)
	disk := b.disk("a")
	b.in.Log = func(step string) {
		if step != "reading everything back" {
			return
		}
		list, err := filepath.Glob(filepath.Join(b.in.Work, "root/ashlar/objects/*/*"))
		if err != nil || len(list) == 0 {
			panic(fmt.Sprint("no objects: ", err))
		}
		if err := os.Chmod(list[0], 0o644); err != nil {
			panic(err)
		}
		if err := os.WriteFile(list[0], []byte("rot"), 0o644); err != nil {
			panic(err)
		}
	}
	plan, err := b.in.Plan(context.Background(), answers(), []Disk{disk})
	b.must(err)
	if _, err := b.in.Run(context.Background(), plan, nil); err == nil || !strings.Contains(err.Error(), "the disk is bad") {
		t.Errorf("error is %v", err)
	}
}

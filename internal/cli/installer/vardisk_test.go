package installer

import (
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/machine/install"
)

// Another disk can have /var; where something is on both, both names are typed.
func TestVarDisk(t *testing.T) {
	u := newUser(t, medium, full, empty, ashlar)
	u.press("<down>", "<up>", "<enter>")
	u.sees("Should /var, with the home directories, have a disk of its own?", "> no", "/dev/vda", "/dev/vdc")
	if screen := u.m.draw(); strings.Contains(screen, "/dev/vdb") || strings.Contains(screen, "/dev/sda") {
		t.Errorf("the system's disk or the medium is offered:\n%s", screen)
	}
	u.press("<down>", "<down>", "<down>", "<enter>")
	u.sees("2 of 5")
	u.press("<esc>")
	u.sees("Should /var", "> /dev/vdc")
	u.press("<up>", "<enter>")
	u.toPlan()
	if a := u.planned[0]; a.Disk.ID != full.ID || a.Var != (install.VarAnswer{Disk: empty.ID, Erase: empty.ID}) {
		t.Errorf("planned was %+v, %+v", a.Disk, a.Var)
	}
	u.sees("Type the disk's name, vdb, to agree", "/var on /dev/vda")

	u = newUser(t, full, ashlar)
	u.press("<enter>", "<down>", "<enter>")
	u.toPlan()
	u.sees("Type the names of the disks, vdb vdc, to agree")
	for _, word := range []string{"vdb", "vdc", "vdc vdb"} {
		if cmd := u.press(word, "<enter>"); cmd != nil {
			t.Fatalf("after typing %q it began", word)
		}
		u.sees("! To go on, type the names of the disks: vdb vdc")
		for range word {
			u.press("<back>")
		}
	}
	u.finish(u.press("vdb vdc", "<enter>"))
	u.sees("Done", "with /var on virtio-three.")
}

// It is asked only where it can be: not with one disk, not of a /var that is kept, not
// where the other disk is too small.
func TestVarDiskIsNotAsked(t *testing.T) {
	small := install.Disk{ID: "virtio-small", Name: "vdd", Path: "/dev/vdd", Size: 1e9}
	u := newUser(t, medium, empty, small)
	u.press("<enter>")
	u.sees("2 of 5")
	u.press("<esc>")
	u.sees("1 of 5 Which disk?")

	u = newUser(t, ashlar, empty)
	u.press("<enter>", "<enter>")
	u.sees("2 of 5")
	u.press("<esc>")
	u.sees("There is an Ashlar on this disk")
	u.press("<down>", "<enter>")
	u.sees("Should /var")
	u.press("<down>", "<enter>", "<esc>", "<esc>")
	u.sees("There is an Ashlar on this disk")
	u.press("<up>", "<enter>") // kept after all
	u.toPlan()
	if a := u.planned[0]; !a.Disk.KeepVar || a.Var != (install.VarAnswer{}) {
		t.Errorf("planned was %+v, %+v", a.Disk, a.Var)
	}
}

// What the command line named is where the cursor begins.
func TestVarDiskGiven(t *testing.T) {
	u := newUser(t, empty, full, ashlar)
	u.m = New(u.m.backend, install.Answers{Var: install.VarAnswer{Disk: ashlar.ID}})
	u.press("<enter>")
	u.sees("> /dev/vdc")
	u.press("<up>", "<up>", "<enter>")
	u.toPlan()
	if a := u.planned[0]; a.Var != (install.VarAnswer{}) {
		t.Errorf("planned was %+v", a.Var)
	}
}

// A plan that is longer than the screen still says what to type.
func TestLongPlan(t *testing.T) {
	u := newUser(t, full, ashlar)
	u.press("<enter>", "<down>", "<enter>")
	u.toPlan()
	for range 20 {
		u.m.plan.Warnings = append(u.m.plan.Warnings, "something to think about")
	}
	u.fits()
	u.sees("Type the names of the disks, vdb vdc, to agree", "EVERYTHING ON IT IS LOST", "...")
}

package media

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/media/drive"
)

// TestDrivesThatLie: drives that are less than they say, and what is said of them.
func TestDrivesThatLie(t *testing.T) {
	for name, c := range map[string]struct {
		size, real int64
		wraps      bool
		probe      bool
		fault      Fault
		atMost     int64 // that the diagnosis may say it has
	}{
		"wraps":                           {64 << 20, 24 << 20, true, false, Wraps, 24 << 20},
		"wraps at an odd size":            {64 << 20, 17<<20 + 12*drive.Block, true, false, Wraps, 17<<20 + 12*drive.Block},
		"wraps, seen before writing":      {256 << 20, 64 << 20, true, true, Wraps, 64 << 20},
		"keeps nothing":                   {64 << 20, 24 << 20, false, false, Short, 24 << 20},
		"keeps nothing, seen before":      {256 << 20, 100 << 20, false, true, Short, 128 << 20},
		"wraps oddly, the probe is blind": {256 << 20, 25<<20 + 3*drive.Block, true, true, Wraps, 25<<20 + 3*drive.Block},
	} {
		t.Run(name, func(t *testing.T) {
			m := newImage(8, 48<<20)
			d := newFakeDrive(c.size)
			d.real, d.wraps = c.real, c.wraps
			w := m.burn(d, "map-8")
			w.probe = c.probe
			_, err := w.run(context.Background())
			var bad *BadDrive
			if !errors.As(err, &bad) {
				t.Fatalf("it says %v", err)
			}
			if bad.Fault != c.fault || bad.Real == 0 || bad.Real > c.atMost || bad.Claimed != c.size {
				t.Errorf("it says %+v (%v)", bad, bad)
			}
			if boots(d) {
				t.Error("it boots")
			}
			if !strings.Contains(bad.Hint(), "counterfeit") {
				t.Errorf("the hint is %q", bad.Hint())
			}
		})
	}
}

func TestHonestDrivesPassTheProbe(t *testing.T) {
	for _, size := range []int64{48 << 20, 48<<20 + drive.Block, 61<<20 + 7*drive.Block} {
		m := newImage(9, 40<<20)
		d := filled(size)
		w := m.burn(d, "map-9")
		w.probe = true
		mustRun(t, w)
		if off, ok := m.on(d); !ok {
			t.Fatalf("byte %d is wrong", off)
		}
	}
}

func TestBrokenDriveNamesTheByte(t *testing.T) {
	m := newImage(10, 16<<20)
	d := newFakeDrive(20 << 20)
	d.flips = m.pieces[len(m.pieces)/2].offset + 3*drive.Block
	if m.pieces[len(m.pieces)/2].length <= 3*drive.Block {
		t.Fatal("choose another seed")
	}
	_, err := m.burn(d, "map-10").run(context.Background())
	var bad *BadDrive
	if !errors.As(err, &bad) || bad.Fault != Broken || bad.Offset != d.flips+100 {
		t.Fatalf("byte %d has a wrong bit, and it says %v", d.flips+100, err)
	}
	if boots(d) {
		t.Error("it boots")
	}
}

// The head is read back as well: a wrong bit in the first block is found.
func TestBrokenFirstBlock(t *testing.T) {
	m := newImage(11, 4<<20)
	d := newFakeDrive(8 << 20)
	d.flips = drive.Block
	_, err := m.burn(d, "map-11").run(context.Background())
	var bad *BadDrive
	if !errors.As(err, &bad) || bad.Offset != d.flips+100 {
		t.Fatalf("byte %d has a wrong bit, and it says %v", d.flips+100, err)
	}
	if boots(d) {
		t.Error("it boots")
	}
}

func TestSourceThatChanges(t *testing.T) {
	m := newImage(12, 4<<20)
	w := m.burn(newFakeDrive(8<<20), "map-12")
	w.pieces[len(w.pieces)-1].sha256 = sha256.Sum256(nil)
	_, err := w.run(context.Background())
	if !errors.Is(err, errChanged) {
		t.Fatalf("it says %v", err)
	}
}

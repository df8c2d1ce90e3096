package media

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/media/drive"
)

func TestWriteHoldsTheImage(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		writeHoldsTheImage(t, keeps)
	}
}

func writeHoldsTheImage(t *testing.T, keeps bool) {
	m := newImage(1, 8<<20)
	d := filled(20 << 20)
	d.keeps = keeps
	got := mustRun(t, m.burn(d, "map-1"))
	if off, ok := m.on(d); !ok {
		t.Fatalf("byte %d is wrong", off)
	}
	want := int64(0)
	for _, p := range m.pieces {
		want += p.length
	}
	if got.Bytes != want || got.Resumed != 0 || got.Discarded == keeps {
		t.Errorf("it says %+v, want %d bytes", got, want)
	}
	if d.read < want {
		t.Errorf("it read %d bytes back, of %d", d.read, want)
	}
	last := d.log[len(d.log)-1]
	if last.off != 0 || last.n != drive.Block {
		t.Errorf("the last write is %d bytes at %d, want the first block", last.n, last.off)
	}
}

// A partition table at the drive's end is not the medium's: firmware and sgdisk
// would repair the true one with it.
func TestWriteWipesTheStaleBackupTable(t *testing.T) {
	m := newImage(2, 4<<20)
	for _, size := range []int64{4<<20 + drive.Block, 5 << 20, 40 << 20} {
		d := filled(size)
		mustRun(t, m.burn(d, "map-2"))
		end := make([]byte, drive.Block)
		d.ReadAt(end, size-drive.Block)
		if bytes.Contains(end, []byte("EFI PART")) {
			t.Errorf("drive of %d bytes: the old backup table is still there", size)
		}
	}
}

// The power fails after any write, and of what was not flushed any part may be
// there: what boots is whole, and the next write makes it whole.
func TestPowerCutAtEveryPoint(t *testing.T) {
	m := newImage(3, 3<<20)
	whole := filled(6 << 20)
	before := filled(6 << 20)
	mustRun(t, m.burn(whole, "map-3"))
	r := rand.New(rand.NewPCG(3, 3))
	bootable := 0
	for n := range len(whole.log) + 1 {
		for _, chance := range []float64{0, 0.5, 1} {
			left := whole.after(before, n, func() bool { return r.Float64() < chance })
			if _, ok := m.on(left); boots(left) && !ok && wasTouched(left, before) {
				t.Fatalf("cut after write %d of %d: it boots, and is not whole", n, len(whole.log))
			} else if ok {
				bootable++
			}
			mustRun(t, m.burn(left, "map-3"))
			if off, ok := m.on(left); !ok {
				t.Fatalf("cut after write %d: written again, byte %d is wrong", n, off)
			}
		}
	}
	if bootable == 0 {
		t.Fatal("the whole write is not among the cuts: the test proves nothing")
	}
}

// wasTouched tells a drive that is half something from one that is as it was.
func wasTouched(d, before *fakeDrive) bool {
	for off, b := range before.blocks {
		if !bytes.Equal(d.blocks[off], b) {
			return true
		}
	}
	return false
}

// What a CD boots by is as dangerous as a boot sector: it may not be there early either.
func TestVolumeDescriptorsComeLate(t *testing.T) {
	m := newImage(4, 3<<20)
	copy(m.data[0], bytes.Repeat([]byte{0}, len(m.data[0])))
	m = &image{size: m.size, data: map[int64][]byte{}}
	for off := int64(0); off < m.size; off += 1 << 20 {
		b := bytes.Repeat([]byte{byte(off>>20) + 1}, 1<<20)
		if off == 0 {
			copy(b[32769:], "CD001")
		}
		m.add(off, b)
	}
	d := newFakeDrive(4 << 20)
	before := newFakeDrive(4 << 20)
	mustRun(t, m.burn(d, "map-4"))
	seen := false
	for n := range len(d.log) + 1 {
		left := d.after(before, n, func() bool { return true })
		if !boots(left) {
			continue
		}
		seen = true
		left.blocks[0] = d.blocks[0]
		if off, ok := m.on(left); !ok {
			t.Fatalf("after write %d the volume descriptors are there, and byte %d is not", n, off)
		}
	}
	if !seen {
		t.Fatal("it never boots: the test proves nothing")
	}
}

func TestResume(t *testing.T) {
	m := newImage(5, 120<<20)
	whole := newFakeDrive(130 << 20)
	mustRun(t, m.burn(whole, "map-5"))
	cut := newFakeDrive(130 << 20)
	cut.stopAt = len(whole.log) - 20
	if _, err := m.burn(cut, "map-5").run(context.Background()); !errors.Is(err, errPulled) {
		t.Fatalf("the drive was pulled out, and the error is %v", err)
	}
	if boots(cut) {
		t.Fatal("the half-written drive boots")
	}

	t.Run("goes on", func(t *testing.T) {
		d := cut.after(newFakeDrive(130<<20), len(cut.log), func() bool { return true })
		got := mustRun(t, m.burn(d, "map-5"))
		if off, ok := m.on(d); !ok {
			t.Fatalf("byte %d is wrong", off)
		}
		if got.Resumed < got.Bytes/4 || len(d.log) > len(whole.log)/2 {
			t.Errorf("%d of %d bytes were there, and it wrote %d times (%d in all)", got.Resumed, got.Bytes, len(d.log), len(whole.log))
		}
	})
	t.Run("of another image", func(t *testing.T) {
		d := cut.after(newFakeDrive(130<<20), len(cut.log), func() bool { return true })
		other := newImage(6, 120<<20)
		if got := mustRun(t, other.burn(d, "map-6")); got.Resumed != 0 {
			t.Errorf("it took %d bytes of another image for its own", got.Resumed)
		}
		if off, ok := other.on(d); !ok {
			t.Fatalf("byte %d is wrong", off)
		}
	})
	t.Run("the marker promises too much", func(t *testing.T) {
		d := cut.after(newFakeDrive(130<<20), len(cut.log), func() bool { return true })
		for off := int64(1 << 20); off < 3<<20; off += drive.Block {
			delete(d.blocks, off)
		}
		mustRun(t, m.burn(d, "map-5"))
		if off, ok := m.on(d); !ok {
			t.Fatalf("byte %d is wrong", off)
		}
	})
}

func TestMarker(t *testing.T) {
	b := encodeMarker("abc", 123<<20)
	if got := decodeMarker(b, "abc"); got != 123<<20 {
		t.Errorf("it reads %d", got)
	}
	if b[510] != 0 || b[511] != 0 || len(strings.TrimRight(string(b), "\x00")) > 510 {
		t.Error("it could be taken for a boot sector")
	}
	for what, b := range map[string][]byte{
		"of another map": encodeMarker("abd", 5), "negative": encodeMarker("abc", -5),
		"empty": make([]byte, drive.Block), "a changed digit": bytes.Replace(b, []byte("written 1"), []byte("written 2"), 1),
	} {
		if got := decodeMarker(b, "abc"); got != 0 {
			t.Errorf("%s: it reads %d, want 0", what, got)
		}
	}
}

func FuzzMarker(f *testing.F) {
	f.Add(encodeMarker("abc", 4096))
	f.Add([]byte("ashlar: a medium is being written here, version 1\nmap abc\nwritten 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := decodeMarker(b, "abc"); n != 0 && !bytes.Equal(b, encodeMarker("abc", n)) {
			t.Errorf("%q is read as %d", b, n)
		}
	})
}

func TestInterruptedByPerson(t *testing.T) {
	m := newImage(7, 32<<20)
	ctx, cancel := context.WithCancel(context.Background())
	d := newFakeDrive(40 << 20)
	w := m.burn(d, "map-7")
	read := w.pieces[len(w.pieces)/2].read
	w.pieces[len(w.pieces)/2].read = func(b []byte) error { cancel(); return read(b) }
	if _, err := w.run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("the error is %v", err)
	}
	if boots(d) {
		t.Error("it boots")
	}
}

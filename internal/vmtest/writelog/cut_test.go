package writelog

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func replay(t *testing.T, l *Log, base []byte) *Replay {
	t.Helper()
	r, err := l.Replay(bytes.NewReader(base), int64(len(base)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// seek returns the disk that a cut left.
func seek(t *testing.T, r *Replay, c Cut) []byte {
	t.Helper()
	if err := r.Seek(c); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r.Section(Section{0, r.Size()}))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// randomLog is of writes of one to twelve sectors on a disk of 64, each with a
// fill of its own.
func randomLog(t *testing.T, seed uint64) (*Log, []request) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	var list []request
	for i := range 200 {
		n := 1 + rng.Uint64N(12)
		switch at := rng.Uint64N(64 - n); rng.IntN(8) {
		case 0, 1:
			list = append(list, flush)
		case 2:
			list = append(list, request{flags: flagDiscard, sector: at, sectors: n})
		case 3:
			list = append(list, request{flagFUA, at, n, byte(1 + i)})
		default:
			list = append(list, write(at, n, byte(1+i)))
		}
	}
	return openLog(t, list), list
}

// TestEverySectorIsOldOrNew: after any cut each sector is as it was at the last
// flush, or as one write since then made it; and what was to be durable is.
func TestEverySectorIsOldOrNew(t *testing.T) {
	for seed := range uint64(3) {
		l, requests := randomLog(t, seed)
		base := bytes.Repeat([]byte{0xee}, 64*SectorSize)
		r := replay(t, l, base)
		odd := make(map[Fate]int)
		for _, c := range l.Cuts(seed, 10) {
			disk := seek(t, r, c)
			from, to := l.At(c)
			for s := range uint64(64) {
				possible := map[byte]bool{0xee: true}
				was := byte(0xee)
				for i, q := range requests[:to] {
					if s < q.sector || s >= q.sector+q.sectors {
						continue
					}
					if i < from {
						clear(possible)
						was = q.fill
					}
					if q.flags == flagFUA {
						clear(possible)
					}
					possible[q.fill] = true
				}
				got := disk[s*SectorSize : (s+1)*SectorSize]
				if !possible[got[0]] || !bytes.Equal(got, bytes.Repeat(got[:1], SectorSize)) {
					t.Fatalf("seed %d, %v: sector %d is %#x, want one of %v", seed, c, s, got[0], possible)
				}
				if got[0] != was {
					odd[c.Fate]++
				}
			}
		}
		for _, fate := range fates {
			if odd[fate] == 0 {
				t.Errorf("seed %d: no cut that is %q brought any write of its epoch", seed, fate)
			}
		}
	}
}

// TestNothingUnflushedIsPromised: for every write that a cut need not have brought
// there is a cut that did not, and one that did.
func TestNothingUnflushedIsPromised(t *testing.T) {
	l := openLog(t, []request{write(0, 4, 'a'), flush, write(0, 1, 'b'), write(2, 1, 'c'), write(4, 3, 'd'), flush})
	r := replay(t, l, make([]byte, 8*SectorSize))
	seen := make(map[string]bool)
	for _, c := range l.Cuts(1, 6000) {
		disk, row := seek(t, r, c), ""
		for s := range 8 {
			row += string(max(rune(disk[s*SectorSize]), '-'))
		}
		seen[row] = true
	}
	for _, want := range []string{"aaaa----", "baaa----", "aaca----", "aaaaddd-", "bacaddd-", "bacad---", "baca--d-", "baca----", "aacaddd-", "baaaddd-"} {
		if !seen[want] {
			t.Errorf("no cut left %s", want)
		}
	}
	if seen["b-------"] || seen["----ddd-"] {
		t.Error("a cut lost what was flushed")
	}
}

// TestImageFollows: the file is the disk at each cut, and where keys are the same
// so is the content.
func TestImageFollows(t *testing.T) {
	l, _ := randomLog(t, 7)
	base := bytes.Repeat([]byte{0xee}, 64*SectorSize)
	r := replay(t, l, base)
	part := Section{At: 5 * SectorSize, Length: 50 * SectorSize}
	m, err := r.NewImage(filepath.Join(t.TempDir(), "part"), part)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	content := make(map[string]string)
	for _, c := range l.Cuts(1, 10) {
		disk := seek(t, r, c)
		if err := m.Follow(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(m.Name())
		if err != nil {
			t.Fatal(err)
		}
		want := disk[part.At : part.At+part.Length]
		if !bytes.Equal(got, want) {
			t.Fatalf("%v: the image is not the disk", c)
		}
		// What a program has done to the file is over, and the next cut finds it whole.
		if err := os.WriteFile(m.Name(), bytes.Repeat([]byte("x"), len(got)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := m.Restore(); err != nil {
			t.Fatal(err)
		}
		if again, err := os.ReadFile(m.Name()); err != nil || !bytes.Equal(again, want) {
			t.Fatalf("%v: restored, the image is not the disk: %v", c, err)
		}
		key := r.Key(part)
		if old, known := content[key]; known && old != string(want) {
			t.Fatalf("%v: the key %q was another content's", c, key)
		}
		content[key] = string(want)
	}
	if len(content) < l.Epochs() {
		t.Errorf("%d keys for %d epochs", len(content), l.Epochs())
	}
}

// TestACutIsTheSameAgain: alone and after others.
func TestACutIsTheSameAgain(t *testing.T) {
	l, _ := randomLog(t, 9)
	base := make([]byte, 64*SectorSize)
	r := replay(t, l, base)
	for _, c := range l.Cuts(3, 10) {
		if !bytes.Equal(seek(t, r, c), seek(t, replay(t, l, base), c)) {
			t.Fatalf("%v is another disk after others", c)
		}
	}
	if err := r.Seek(Cut{Epoch: 0, Fate: Dropped}); err == nil {
		t.Error("it goes back")
	}
}

// TestForgottenFlushes: then nothing but FUA is ever durable.
func TestForgottenFlushes(t *testing.T) {
	l := openLog(t, []request{write(0, 1, 'a'), flush, write(1, 1, 'b'), flush})
	l.ForgetFlushes()
	r := replay(t, l, make([]byte, 2*SectorSize))
	lost := false
	for _, c := range l.Cuts(1, 20) {
		disk := seek(t, r, c)
		lost = lost || disk[0] == 0 && disk[SectorSize] == 'b'
	}
	if l.Epochs() != 1 || !lost {
		t.Errorf("%d epochs; lost: %t", l.Epochs(), lost)
	}
}

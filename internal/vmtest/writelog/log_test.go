package writelog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// request is an entry for a test's log. Its sectors are filled with one byte.
type request struct {
	flags   uint64
	sector  uint64
	sectors uint64
	fill    byte
}

func write(sector, sectors uint64, fill byte) request { return request{0, sector, sectors, fill} }

var flush = request{flags: flagFlush}

// encode writes a log as QEMU does.
func encode(requests ...request) []byte {
	b := make([]byte, SectorSize)
	le := binary.LittleEndian
	le.PutUint64(b, magic)
	le.PutUint64(b[8:], version)
	le.PutUint64(b[16:], uint64(len(requests)))
	le.PutUint32(b[24:], SectorSize)
	for _, r := range requests {
		head := make([]byte, SectorSize)
		le.PutUint64(head, r.sector)
		le.PutUint64(head[8:], r.sectors)
		le.PutUint64(head[16:], r.flags)
		b = append(b, head...)
		if r.flags&^flagFUA == 0 {
			b = append(b, bytes.Repeat([]byte{r.fill}, int(r.sectors)*SectorSize)...)
		}
	}
	return b
}

// openLog is the log of requests, as one file each.
func openLog(t *testing.T, files ...[]request) *Log {
	t.Helper()
	var names []string
	for i, requests := range files {
		name := filepath.Join(t.TempDir(), fmt.Sprint(i))
		if err := os.WriteFile(name, encode(requests...), 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	l, err := Open(names...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestLogsFollowEachOther(t *testing.T) {
	l := openLog(t,
		[]request{write(0, 2, 'a'), flush, flush, write(8, 1, 'b')},
		[]request{{flags: flagMark}, write(1, 1, 'c'), flush})
	if got, want := l.Stats(), (Stats{Writes: 3, Flushes: 3, Sectors: 4}); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
	// What was written before a restart and not flushed is still not.
	if l.Epochs() != 2 {
		t.Errorf("%d epochs, want 2", l.Epochs())
	}
	for _, test := range []struct{ log, entries, want int }{{0, 0, 0}, {0, 2, 2}, {1, 0, 4}, {1, 3, 7}, {2, 0, 7}, {-1, 0, 7}} {
		if got := l.Index(test.log, test.entries); got != test.want {
			t.Errorf("entry %d of log %d is %d, want %d", test.entries, test.log, got, test.want)
		}
	}
}

func TestDamagedLogs(t *testing.T) {
	good := encode(write(0, 2, 'a'), flush)
	patch := func(at int, b byte) []byte {
		c := bytes.Clone(good)
		c[at] = b
		return c
	}
	for want, b := range map[string][]byte{
		"does not begin":     patch(0, 0),
		"sectors have":       patch(25, 4),
		"it has 255 entries": patch(16, 255),
		"ends in entry 2":    patch(16, 3),
		"has the flags 0x10": patch(512+16, 16),
		"is cut off":         patch(512+8, 200),
		"flushes and writes": patch(512+16, flagFlush),
		"of 2 sectors from":  patch(512+7, 1),
		"less than a sector": good[:100],
	} {
		name := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := Open(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v (%v)", want, err, l)
		}
	}
}

// TestQEMU has QEMU itself write a log, and rebuilds what it wrote.
func TestQEMU(t *testing.T) {
	dir := t.TempDir()
	disk, log := filepath.Join(dir, "disk"), filepath.Join(dir, "log")
	before := bytes.Repeat([]byte{'.'}, 1<<20)
	if err := os.WriteFile(disk, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	node := fmt.Sprintf(`json:{"driver":"blklogwrites","log-sector-size":512,"discard":"unmap",
		"file":{"driver":"file","filename":%q,"discard":"unmap"},"log":{"driver":"file","filename":%q}}`, disk, log)
	out, err := exec.Command("qemu-io", "-t", "writeback", "-d", "unmap",
		"-c", "write -P 0x61 0 8k", "-c", "flush", "-c", "write -P 0x62 4k 1k", "-c", "write -z 64k 4k",
		"-c", "flush", "-c", "write -P 0x63 1536 512", "-c", "flush", "-c", "write -P 0x64 100k 512", "-c", "flush", node).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-io: %v: %s", err, out)
	}
	after, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Epochs() != 4 {
		t.Fatalf("%d epochs of 4: %+v", l.Epochs(), l.Stats())
	}
	r := replay(t, l, before)
	check := func(epoch int, want []byte) {
		t.Helper()
		if got := seek(t, r, Cut{Epoch: epoch, Fate: Dropped}); !bytes.Equal(got, want) {
			t.Errorf("the disk after %d flushes is wrong", epoch)
		}
	}
	check(0, before)
	want := bytes.Clone(before)
	copy(want, bytes.Repeat([]byte{'a'}, 8<<10))
	check(1, want)
	copy(want[4<<10:], bytes.Repeat([]byte{'b'}, 1<<10))
	clear(want[64<<10 : 68<<10])
	check(2, want)
	copy(want[1536:], bytes.Repeat([]byte{'c'}, 512))
	check(3, want)
	check(4, after)
}

func FuzzParse(f *testing.F) {
	f.Add(encode(write(0, 2, 'a'), flush, write(8, 1, 'b'), request{flags: flagDiscard, sector: 3, sectors: 9}))
	f.Add(encode(request{flags: flagMark}, request{flagFUA, 1, 1, 'x'}, flush))
	f.Add(encode(request{}, flush, request{}, write(1, 1, 'x')))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parse(b)
		if err != nil {
			return
		}
		l := &Log{entries: entries}
		l.divide()
		size := int64(16 << 10)
		r, err := l.Replay(bytes.NewReader(make([]byte, size)), size)
		if err != nil {
			return
		}
		for _, c := range l.Cuts(1, 5) {
			if err := r.Seek(c); err != nil {
				t.Fatal(err)
			}
			if _, err := r.ReadAt(make([]byte, size), 0); err != nil {
				t.Fatal(err)
			}
		}
	})
}

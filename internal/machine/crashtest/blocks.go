package crashtest

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Blocks is what a process and the programs that it runs wrote to a disk itself,
// below all file systems: tables of partitions, and what mkfs writes. The disk is a
// file, its partitions are loop devices. What was written to it by ioctl(2) and
// fallocate(2) is not known: mke2fs discards so, mkfs.vfat does not.
type Blocks struct {
	Before Image
	Ops    []BlockOp
}

// BlockOp is a write or, without data, a flush.
type BlockOp struct {
	Channel string // the device file: each has a cache of its own in the kernel
	At      int64  // bytes from the start of the disk
	Data    []byte
	When    int // operations on file systems that were done before, see Log
}

// Section is a part of a disk, in bytes.
type Section struct{ At, Length int64 }

// disk is the disk that a recorder looks at beside its directory.
type disk struct {
	path     string
	sections []Section
	Blocks
}

// channel is the device file behind a descriptor, if it is the disk or a part of
// it, and where that begins.
func (r *recorder) channel(tid int, fd uint64) (name string, at int64, ok bool) {
	if r.disk == nil {
		return "", 0, false
	}
	name = r.link(tid, "fd/"+decimal(int(int32(fd))))
	if name == r.disk.path {
		return name, 0, true
	}
	loop, ok := strings.CutPrefix(name, "/dev/loop")
	if _, err := strconv.Atoi(loop); !ok || err != nil {
		return "", 0, false
	}
	attribute := func(which string) string {
		b, _ := os.ReadFile(filepath.Join("/sys/block/loop"+loop, "loop", which)) // none where it is free
		return strings.TrimSpace(string(b))
	}
	if attribute("backing_file") != r.disk.path {
		return "", 0, false
	}
	at, err := strconv.ParseInt(attribute("offset"), 10, 64)
	must(r.t, err)
	return name, at, true
}

// beginBlock reads a call on the disk.
func (r *recorder) beginBlock(tid int, c *call) *pending {
	name, at, ok := r.channel(tid, c.args[0])
	if !ok {
		return nil
	}
	op := &BlockOp{Channel: name, When: len(r.log.Ops)}
	switch c.number {
	case unix.SYS_WRITE, unix.SYS_PWRITE64:
		offset := int64(c.args[3])
		if c.number == unix.SYS_WRITE {
			offset = r.position(tid, c.args[0], 0)
		}
		op.At = at + offset
		return &pending{block: op, data: r.memory(tid, c.args[1], c.args[2])}
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		return &pending{block: op}
	case unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_SENDFILE, unix.SYS_SPLICE, unix.SYS_COPY_FILE_RANGE:
		r.t.Fatalf("system call %d on the disk is not known to the recorder", c.number)
	}
	return nil
}

// add notes a write, as far as it is in one of the sections, or a flush.
func (d *disk) add(op BlockOp) {
	if op.Data == nil {
		d.Ops = append(d.Ops, op)
		return
	}
	for _, s := range d.sections {
		from, to := max(op.At, s.At), min(op.At+int64(len(op.Data)), s.At+s.Length)
		if from >= to {
			continue
		}
		part := BlockOp{op.Channel, from, op.Data[from-op.At : to-op.At], op.When}
		// mkfs writes zeros a sector at a time: they are one write.
		if n := len(d.Ops); n > 0 {
			if last := &d.Ops[n-1]; last.Data != nil && last.Channel == op.Channel && last.When == op.When && last.At+int64(len(last.Data)) == from {
				last.Data = append(last.Data, part.Data...)
				continue
			}
		}
		d.Ops = append(d.Ops, part)
	}
}

// Cuts calls fn for every disk that a cut may leave: of what no flush of the same
// device file covered, any sectors may be there, in any order and each in any of the
// versions that it had. All combinations are tried where there are few, else every
// prefix, each sector alone, each missing, and some at random. done is the number of
// operations on file systems that were done before the cut.
func (b *Blocks) Cuts(seed uint64, fn func(done int, image Image)) {
	rng := rand.New(rand.NewPCG(seed, 4))
	base := b.Before.clone()
	fn(b.when(0), base.clone())
	var waiting []BlockOp
	for i, op := range b.Ops {
		if op.Data != nil {
			waiting = append(waiting, op)
			combineBlocks(base, waiting, rng, func(image Image) { fn(b.when(i+1), image) })
			continue
		}
		waiting = slices.DeleteFunc(waiting, func(w BlockOp) bool {
			if w.Channel != op.Channel {
				return false
			}
			base.write(w)
			return true
		})
		fn(b.when(i+1), base.clone())
	}
}

// when is how many operations on file systems were done when the power was cut before
// an operation on the disk.
func (b *Blocks) when(op int) int {
	if op < len(b.Ops) {
		return b.Ops[op].When
	}
	if op == 0 {
		return 0
	}
	return b.Ops[op-1].When
}

// Waits reports whether something that was written to the disk was never flushed.
func (b *Blocks) Waits() bool {
	waiting := make(map[string]bool)
	for _, op := range b.Ops {
		waiting[op.Channel] = op.Data != nil
	}
	for _, yes := range waiting {
		if yes {
			return true
		}
	}
	return false
}

// After is the disk with all that was written.
func (b *Blocks) After() Image {
	image := b.Before.clone()
	for _, op := range b.Ops {
		image.write(op)
	}
	return image
}

// Section is a part of an image as one of its own.
func (m Image) Section(s Section) Image {
	part := make(Image)
	for sector, b := range m {
		if at := int64(sector) * sectorSize; at >= s.At && at < s.At+s.Length {
			part[sector-uint32(s.At/sectorSize)] = b
		}
	}
	return part
}

// only is what an image has in a section.
func (m Image) only(s Section) Image {
	part := make(Image)
	part.Put(s.At, m.Section(s))
	return part
}

// Put puts what an image has into another one, from a byte on.
func (m Image) Put(at int64, part Image) {
	for sector, b := range part {
		m[sector+uint32(at/sectorSize)] = b
	}
}

// Without is an image with zeros for a part of it.
func (m Image) Without(s Section) Image {
	rest := m.clone()
	for sector := range m {
		if at := int64(sector) * sectorSize; at >= s.At && at < s.At+s.Length {
			delete(rest, sector)
		}
	}
	return rest
}

func (m Image) write(op BlockOp) {
	for at, data := op.At, op.Data; len(data) > 0; {
		n := min(len(data), sectorSize-int(at%sectorSize))
		m.patch(uint32(at/sectorSize), int(at%sectorSize), data[:n])
		at, data = at+int64(n), data[n:]
	}
}

// combineBlocks enumerates what may have arrived of writes that no flush covered. A
// sector that would become what it is already is of no account.
func combineBlocks(base Image, waiting []BlockOp, rng *rand.Rand, fn func(Image)) {
	var sectors []uint32 // those that change, in the order in which they were written
	versions := make(map[uint32][]*[sectorSize]byte)
	now := make(Image)
	for _, op := range waiting {
		first, last := uint32(op.At/sectorSize), uint32((op.At+int64(len(op.Data))-1)/sectorSize)
		for s := first; s <= last; s++ {
			if now[s] == nil {
				if now[s] = base[s]; now[s] == nil {
					now[s] = new([sectorSize]byte)
				}
			}
		}
		now.write(op)
		for s := first; s <= last; s++ {
			old := versions[s]
			if old == nil {
				if b := base[s]; b != nil && *b != *now[s] || b == nil && *now[s] != [sectorSize]byte{} {
					sectors = append(sectors, s)
				} else {
					continue
				}
			} else if *old[len(old)-1] == *now[s] {
				continue
			}
			versions[s] = append(old, now[s])
		}
	}
	const all = 8
	n := len(sectors)
	pick := func(of func(i int) int) {
		image := base.clone()
		for i, s := range sectors {
			if v := of(i); v > 0 {
				image[s] = versions[s][v-1]
			}
		}
		fn(image)
	}
	newest := func(i int) int { return len(versions[sectors[i]]) }
	if n <= all {
		for bits := range 1 << n {
			pick(func(i int) int { return (bits >> i & 1) * newest(i) })
		}
	} else {
		for k := range steps(n + 1) {
			pick(func(i int) int { return b2i(i < k) * newest(i) })
			pick(func(i int) int { return b2i(i >= k) * newest(i) })
		}
		for k := range steps(n) {
			pick(func(i int) int { return b2i(i == k) * newest(i) })
			pick(func(i int) int { return b2i(i != k) * newest(i) })
		}
	}
	for range 16 {
		share := []float64{0.1, 0.5, 0.9}[rng.IntN(3)]
		pick(func(i int) int {
			if rng.Float64() >= share {
				return 0
			}
			return 1 + rng.IntN(newest(i))
		})
	}
}

// steps goes from 0 to n-1: all numbers where there are few, and else the first ones
// and some of the others.
func steps(n int) func(yield func(int) bool) {
	const most = 64
	return func(yield func(int) bool) {
		for k := 0; k < n; k += 1 + max(0, k-most/2)*n/most/most {
			if !yield(k) {
				return
			}
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

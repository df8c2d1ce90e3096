package crashtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// VFAT does to sectors what Linux's vfat does for file operations, and remembers
// in which order. It knows what the operations of a machine need, and no more.
type VFAT struct {
	t        testing.TB
	image    Image
	geometry geometry
	inodes   map[string]*inode
	patches  []*patch
	now      int               // the operation that is going on
	belongs  map[uint32]*inode // the directory whose fsync writes a sector, see change
	replaced []uint32          // clusters of files that were renamed over, and are still open
}

// inode is a file or directory as the kernel has it in memory.
type inode struct {
	slots []int64 // where its slots are, bytes from the start; the last is the 8.3 one
	chain []uint32
	size  int64
	dir   bool
	gone  bool // it has no slots any more
}

// patch is a change of one sector in the kernel's memory, to be written some day.
type patch struct {
	op      int
	sector  uint32
	at      int
	data    []byte
	kind    patchKind
	owner   *inode
	written bool // the kernel has handed it to the drive
	flushed int  // operation by whose end it is on the disk; 0: none yet
}

type patchKind byte

const (
	slotPatch  patchKind = iota // names in a directory; its owner is the directory
	inodePatch                  // first cluster and length in a slot; comes when the inode is written
	tablePatch
	dataPatch
)

const slotSize = 32

// NewVFAT lets Linux's vfat work on an image. What is in it already must have
// been written by this package.
func NewVFAT(t testing.TB, image Image) *VFAT {
	g, err := readGeometry(image)
	must(t, err)
	image = image.clone()
	// How many clusters are free is a hint that a mount may leave unknown.
	image.patch(1, 488, []byte{0xff, 0xff, 0xff, 0xff})
	return &VFAT{t: t, image: image, geometry: g, belongs: map[uint32]*inode{}, inodes: map[string]*inode{
		".": {dir: true, chain: []uint32{g.root}},
	}}
}

// Fill writes what is below dir of a tree, durably. Directories are as those of a
// machine that has seen many releases: the slots of names that are gone are marked
// as deleted, where in a new directory they would say that nothing follows.
func (v *VFAT) Fill(tree *Tree, dir string) {
	must(v.t, tree.Walk(func(name string, n *Node) error {
		name, ok := strings.CutPrefix(name, dir+"/")
		switch {
		case !ok:
		case n.Dir:
			v.mkdir(name)
			for i := range 8 {
				v.create(fmt.Sprintf("%s/the boot file of an old release, %d.efi", name, i), 0)
			}
			for i := range 8 {
				v.removeSlots(fmt.Sprintf("%s/the boot file of an old release, %d.efi", name, i))
			}
		default:
			v.create(name, 0)
			v.write(name, 0, n.Data)
		}
		return nil
	}))
	v.patches = nil // all of it is on the disk
	clear(v.belongs)
}

// Image is what the kernel sees now: with everything that is not on the disk yet.
func (v *VFAT) Image() Image { return v.image.clone() }

// Do does an operation, whose paths are relative to the file system. It is the
// operation number n, counted from 1.
func (v *VFAT) Do(n int, op Op) {
	v.now = n
	switch op.Kind {
	case Create:
		v.create(op.Path, 0)
	case Mkdir:
		v.mkdir(op.Path)
	case Write:
		v.write(op.Path, op.Offset, op.Data)
	case Rename:
		v.rename(op.Path, op.To)
	case Unlink:
		v.unlink(op.Path)
	case Fsync:
		v.fsync(v.inode(op.Path))
	case Syncfs:
		v.writeOut(func(*patch) bool { return true })
	default:
		v.t.Fatalf("the model of vfat does not know how to %v", op)
	}
}

func (v *VFAT) inode(name string) *inode {
	n := v.inodes[name]
	if n == nil {
		v.t.Fatalf("%q is not on the ESP", name)
	}
	return n
}

// change writes to a buffer of the kernel's. One with slots is of the directory that
// had it first, until that is synced (mark_buffer_dirty_inode): the first cluster of a
// new directory is its parent's.
func (v *VFAT) change(at int64, data []byte, kind patchKind, owner *inode) {
	for len(data) > 0 {
		sector, offset := uint32(at/sectorSize), int(at%sectorSize)
		owner := owner
		if kind == slotPatch {
			if first := v.belongs[sector]; first != nil {
				owner = first
			}
			v.belongs[sector] = owner
		}
		n := min(len(data), sectorSize-offset)
		v.patches = append(v.patches, &patch{op: v.now, sector: sector, at: offset, data: bytes.Clone(data[:n]), kind: kind, owner: owner})
		v.image.patch(sector, offset, data[:n])
		at, data = at+int64(n), data[n:]
	}
}

// create is vfat_create.
func (v *VFAT) create(name string, attributes byte) *inode { return v.addEntry(name, attributes, 0) }

// addEntry is vfat_add_entry: the slots of the long name, then the 8.3 one.
func (v *VFAT) addEntry(name string, attributes byte, first uint32) *inode {
	parent := v.inode(path.Dir(name))
	slots := v.slots(path.Dir(name), path.Base(name), attributes)
	putFirst(slots[len(slots)-1], first)
	n := &inode{slots: v.free(parent, len(slots)), dir: attributes&attrDir != 0}
	v.inodes[name] = n
	for i, slot := range slots {
		v.change(n.slots[i], slot, slotPatch, parent)
	}
	return n
}

// mkdir is vfat_mkdir: the cluster, what is in it (fat_alloc_new_dir), and then the
// name, which leads there at once.
func (v *VFAT) mkdir(name string) {
	parent := v.inode(path.Dir(name))
	first := v.allocate(&inode{}, 1)[0]
	self, up := dotSlot(".", first), dotSlot("..", 0)
	if path.Dir(name) != "." {
		up = dotSlot("..", parent.chain[0])
	}
	cluster := make([]byte, v.geometry.clusterBytes())
	copy(cluster, self)
	copy(cluster[slotSize:], up)
	v.change(v.geometry.offset(first), cluster, slotPatch, parent)
	v.addEntry(name, attrDir, first).chain = []uint32{first}
}

// free finds room for slots: the first place of that many, as fat_add_entries.
func (v *VFAT) free(parent *inode, n int) (list []int64) {
	for _, cluster := range parent.chain {
		for at := range v.geometry.clusterBytes() / slotSize {
			where := v.geometry.offset(cluster) + at*slotSize
			if first := v.image.read(where, 1)[0]; first != 0 && first != deleted {
				list = nil
				continue
			}
			if list = append(list, where); len(list) == n {
				return list
			}
		}
	}
	v.t.Fatal("a directory is full: the model of vfat does not let it grow")
	return nil
}

// write allocates what is missing and writes the data; the length comes with the inode.
func (v *VFAT) write(name string, at int64, data []byte) {
	n := v.inode(name)
	end := at + int64(len(data))
	per := v.geometry.clusterBytes()
	if more := (end+per-1)/per - int64(len(n.chain)); more > 0 {
		n.chain = append(n.chain, v.allocate(n, int(more))...)
	}
	for done := int64(0); done < int64(len(data)); {
		cluster, offset := n.chain[(at+done)/per], (at+done)%per
		part := min(per-offset, int64(len(data))-done)
		v.change(v.geometry.offset(cluster)+offset, data[done:done+part], dataPatch, n)
		done += part
	}
	n.size = max(n.size, end)
	v.writeInode(n)
}

// allocate marks free clusters as the end of the chain and links them, one by one.
func (v *VFAT) allocate(n *inode, count int) (list []uint32) {
	last := uint32(0)
	if len(n.chain) > 0 {
		last = n.chain[len(n.chain)-1]
	}
	for cluster := uint32(2); len(list) < count; cluster++ {
		if cluster >= v.geometry.clusters+2 {
			v.t.Fatal("the ESP of the model is full")
		}
		if v.geometry.entry(v.image, cluster) != 0 {
			continue
		}
		v.setEntry(cluster, endOfChain)
		if last != 0 {
			v.setEntry(last, cluster)
		}
		last = cluster
		list = append(list, cluster)
	}
	return list
}

// setEntry changes the allocation table and its copy.
func (v *VFAT) setEntry(cluster, value uint32) {
	for table := range v.geometry.tables {
		v.change(v.geometry.entryOffset(table, cluster), binary.LittleEndian.AppendUint32(nil, value), tablePatch, nil)
	}
}

// writeInode puts first cluster and length into the 8.3 slot (__fat_write_inode).
func (v *VFAT) writeInode(n *inode) {
	first, size := uint32(0), uint32(n.size)
	if len(n.chain) > 0 {
		first = n.chain[0]
	}
	slot := n.slots[len(n.slots)-1]
	b := v.image.read(slot, slotSize)
	putFirst(b, first)
	binary.LittleEndian.PutUint32(b[28:], size)
	v.change(slot+20, b[20:], inodePatch, n)
}

func putFirst(slot []byte, first uint32) {
	binary.LittleEndian.PutUint16(slot[20:], uint16(first>>16))
	binary.LittleEndian.PutUint16(slot[26:], uint16(first))
}

// rename is vfat_rename. A name that is there keeps its slots, and the 8.3 one leads
// to the other content from then on, by one write. What it led to is given back with
// the last file descriptor on it; package loader, the only one to rename over
// anything here, keeps one until the directory was synced (see fsync).
func (v *VFAT) rename(from, to string) {
	old, n := v.inode(from), v.inodes[to]
	if n == nil {
		n = v.create(to, 0)
	} else {
		v.replaced = append(v.replaced, n.chain...)
	}
	n.chain, n.size = old.chain, old.size
	v.writeInode(n)
	v.removeSlots(from)
	// What the file is goes on, under the new name.
	for _, p := range v.patches {
		if p.owner == old && p.kind == dataPatch {
			p.owner = n
		}
	}
}

func (v *VFAT) unlink(name string) {
	n := v.inode(name)
	v.removeSlots(name)
	for _, cluster := range n.chain {
		v.setEntry(cluster, 0)
	}
}

// removeSlots marks slots as deleted, the 8.3 one's sector first (fat_remove_entries).
func (v *VFAT) removeSlots(name string) {
	n := v.inode(name)
	for _, slot := range slices.Backward(n.slots) {
		v.change(slot, []byte{deleted}, slotPatch, v.inode(path.Dir(name)))
	}
	n.gone = true
	delete(v.inodes, name)
}

// fsync is fat_file_fsync: a file's data and its slot, or a directory's slots; the
// table; and then the drive's cache, with everything that was written before.
func (v *VFAT) fsync(n *inode) {
	slot := uint32(0)
	if !n.dir {
		slot = uint32(n.slots[len(n.slots)-1] / sectorSize)
	}
	v.writeOut(func(p *patch) bool {
		switch p.kind {
		case tablePatch:
			return true
		case slotPatch:
			return n.dir && p.owner == n || p.sector == slot
		case inodePatch:
			// What a name had that is gone is not written any more.
			return p.owner == n || p.owner.gone && (n.dir || p.sector == slot)
		}
		return p.owner == n
	})
	for _, p := range v.patches {
		if p.written && p.flushed == 0 {
			p.flushed = v.now
		}
	}
	if n.dir {
		for sector, dir := range v.belongs {
			if dir == n {
				delete(v.belongs, sector)
			}
		}
		for _, cluster := range v.replaced {
			v.setEntry(cluster, 0)
		}
		v.replaced = nil
	}
}

// writeOut notes what the kernel writes. That alone is syncfs: it waits for the
// drive to take everything, and does not ask it to flush (there is no sync_fs in
// fat_sops).
func (v *VFAT) writeOut(covers func(*patch) bool) {
	for _, p := range v.patches {
		p.written = p.written || covers(p)
	}
}

// isShort is the form of names that have one slot (vfat_create_shortname).
var isShort = regexp.MustCompile(`^[A-Z0-9_~-]{1,8}(\.[A-Z0-9_~-]{1,3})?$`)

// slots are a name's slots (vfat_build_slots).
func (v *VFAT) slots(dir, name string, attributes byte) (list [][]byte) {
	if isShort.MatchString(name) {
		base, ext, _ := strings.Cut(name, ".")
		return [][]byte{shortSlot(fmt.Sprintf("%-8s%-3s", base, ext), attributes)}
	}
	short := v.shortName(dir, name)
	sum := checksum(short)
	units := utf16.Encode([]rune(name))
	const per = 13
	count := (len(units) + per - 1) / per
	for i := count; i > 0; i-- {
		slot := make([]byte, slotSize)
		slot[0], slot[11], slot[13] = byte(i), attrLong, sum
		if i == count {
			slot[0] |= lastLong
		}
		for j := range per {
			unit := uint16(0xffff)
			if k := (i-1)*per + j; k < len(units) {
				unit = units[k]
			} else if k == len(units) {
				unit = 0
			}
			binary.LittleEndian.PutUint16(slot[longOffsets[j]:], unit)
		}
		list = append(list, slot)
	}
	return append(list, shortSlot(short, attributes))
}

func shortSlot(short string, attributes byte) []byte {
	slot := make([]byte, slotSize)
	copy(slot, short)
	if slot[11] = attributes; attributes == 0 {
		slot[11] = attrArchive
	}
	return slot
}

// shortName is the 8.3 alias of a long name (vfat_create_shortname).
func (v *VFAT) shortName(dir, name string) string {
	base, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		base, ext = name[:i], name[i+1:]
	}
	clean := func(s string, n int) string {
		s = strings.Map(func(r rune) rune {
			switch {
			case r == '.' || r == ' ':
				return -1
			case strings.ContainsRune("[];,+=", r):
				return '_'
			}
			return r
		}, strings.ToUpper(s))
		return s[:min(n, len(s))]
	}
	taken := make(map[string]bool)
	for other, n := range maps.All(v.inodes) {
		if path.Dir(other) == dir && len(n.slots) > 0 {
			taken[string(v.image.read(n.slots[len(n.slots)-1], 11))] = true
		}
	}
	pad := func(s string, n int) string { return s + strings.Repeat(" ", n-len(s)) }
	for i := 1; i <= 9; i++ {
		if s := pad(clean(base, 6)+"~"+decimal(i), 8) + pad(clean(ext, 3), 3); !taken[s] {
			return s
		}
	}
	v.t.Fatalf("%q has no 8.3 name left", name)
	return ""
}

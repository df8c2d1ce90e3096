package crashtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"testing"
	"unicode/utf16"

	"golang.org/x/sys/unix"
)

// What is on a FAT32 file system, after Microsoft's "FAT: General Overview of
// On-Disk Format", version 1.03.
const (
	sectorSize  = 512
	deleted     = 0xe5
	endOfChain  = 0x0fffffff
	attrVolume  = 0x08
	attrDir     = 0x10
	attrArchive = 0x20
	attrLong    = 0x0f
	lastLong    = 0x40
)

// longOffsets is where a slot of a long name has its 13 characters.
var longOffsets = [13]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

// Image is a disk by its sectors; those that are missing are zero. A sector's
// bytes are never written to, but replaced.
type Image map[uint32]*[sectorSize]byte

// LoadImage reads a sparse file.
func LoadImage(t testing.TB, name string) Image {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	image := make(Image)
	for at := int64(0); ; {
		at, err = f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return image
		}
		must(t, err)
		var b [sectorSize]byte
		at -= at % sectorSize
		_, err := f.ReadAt(b[:], at)
		if errors.Is(err, io.EOF) {
			return image
		}
		must(t, err)
		if b != [sectorSize]byte{} {
			image[uint32(at/sectorSize)] = &b
		}
		at += sectorSize
	}
}

// WriteTo writes the image to a sparse file of size bytes.
func (m Image) WriteTo(t testing.TB, name string, size int64) {
	t.Helper()
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(size))
	for sector, b := range m {
		_, err := f.WriteAt(b[:], int64(sector)*sectorSize)
		must(t, err)
	}
}

func (m Image) clone() Image { return maps.Clone(m) }

func (m Image) patch(sector uint32, at int, data []byte) {
	var b [sectorSize]byte
	if old := m[sector]; old != nil {
		b = *old
	}
	copy(b[at:], data)
	m[sector] = &b
}

// read copies n bytes, which may span sectors.
func (m Image) read(at int64, n int) []byte {
	b := make([]byte, n)
	for done := 0; done < n; {
		part := min(n-done, sectorSize-int(at%sectorSize))
		if s := m[uint32(at/sectorSize)]; s != nil {
			copy(b[done:done+part], s[at%sectorSize:])
		}
		done, at = done+part, at+int64(part)
	}
	return b
}

// geometry is what the boot sector says.
type geometry struct {
	reserved, tableSectors uint32
	perCluster             uint32 // sectors
	tables                 int
	clusters, root         uint32
}

func readGeometry(image Image) (g geometry, err error) {
	b := image.read(0, sectorSize)
	g.perCluster = uint32(b[13])
	g.reserved = uint32(binary.LittleEndian.Uint16(b[14:]))
	g.tables = int(b[16])
	g.tableSectors = binary.LittleEndian.Uint32(b[36:])
	g.root = binary.LittleEndian.Uint32(b[44:])
	total := binary.LittleEndian.Uint32(b[32:])
	if binary.LittleEndian.Uint16(b[11:]) != sectorSize || g.perCluster == 0 || b[510] != 0x55 || b[511] != 0xaa || g.tableSectors == 0 {
		return g, errors.New("no FAT32 with sectors of 512 bytes")
	}
	g.clusters = (total - g.dataSector()) / g.perCluster
	return g, nil
}

func (g geometry) dataSector() uint32  { return g.reserved + uint32(g.tables)*g.tableSectors }
func (g geometry) clusterBytes() int64 { return int64(g.perCluster) * sectorSize }

func (g geometry) offset(cluster uint32) int64 {
	return int64(g.dataSector())*sectorSize + int64(cluster-2)*g.clusterBytes()
}

func (g geometry) entryOffset(table int, cluster uint32) int64 {
	return int64(g.reserved+uint32(table)*g.tableSectors)*sectorSize + int64(cluster)*4
}

func (g geometry) entry(image Image, cluster uint32) uint32 {
	return binary.LittleEndian.Uint32(image.read(g.entryOffset(0, cluster), 4)) & 0x0fffffff
}

// File is what a directory of the ESP shows under a name.
type File struct {
	Name  string
	Dir   bool
	First uint32 // cluster
	Data  []byte // as far as it can be read
	Err   error  // why that is not all of it

	size int64
}

// List reads a directory as the loader and the kernel would show it.
func (m Image) List(dir string) ([]File, error) {
	g, err := readGeometry(m)
	if err != nil {
		return nil, err
	}
	cluster := g.root
	for part := range strings.SplitSeq(dir, "/") {
		if part == "." {
			continue
		}
		list, err := m.list(g, cluster)
		if err != nil {
			return nil, err
		}
		cluster = 0
		for _, f := range list {
			if strings.EqualFold(f.Name, part) && f.Dir {
				cluster = f.First
			}
		}
		if cluster == 0 {
			return nil, fmt.Errorf("there is no directory %q", part)
		}
	}
	list, err := m.list(g, cluster)
	if err != nil {
		return nil, err
	}
	var shown []File
	for _, f := range list {
		if f.Name != "." && f.Name != ".." {
			m.load(g, &f)
			shown = append(shown, f)
		}
	}
	return shown, nil
}

func (m Image) list(g geometry, cluster uint32) (list []File, err error) {
	clusters, err := m.chain(g, cluster, -1)
	if err != nil {
		return nil, err
	}
	return m.entries(g, clusters), nil
}

// entries reads the clusters of a directory, and not what its files have.
func (m Image) entries(g geometry, clusters []uint32) (list []File) {
	var long longName
	for _, c := range clusters {
		for at := range g.clusterBytes() / slotSize {
			slot := m.read(g.offset(c)+at*slotSize, slotSize)
			switch {
			case slot[0] == 0:
				return list
			case slot[0] == deleted:
				long = longName{}
			case slot[11] == attrLong:
				long.add(slot)
			case slot[11]&attrVolume != 0:
				long = longName{}
			default:
				f := File{Name: long.name(slot), Dir: slot[11]&attrDir != 0, size: int64(binary.LittleEndian.Uint32(slot[28:]))}
				f.First = uint32(binary.LittleEndian.Uint16(slot[20:]))<<16 | uint32(binary.LittleEndian.Uint16(slot[26:]))
				list = append(list, f)
				long = longName{}
			}
		}
	}
	return list
}

// load reads a file's data.
func (m Image) load(g geometry, f *File) {
	if f.Dir || f.size == 0 {
		return
	}
	need := (f.size + g.clusterBytes() - 1) / g.clusterBytes()
	clusters, err := m.chain(g, f.First, int(need))
	for _, c := range clusters {
		f.Data = append(f.Data, m.read(g.offset(c), int(g.clusterBytes()))...)
	}
	if f.Err = err; err == nil {
		f.Data = f.Data[:f.size]
	}
}

// chain follows the table for need clusters, or to its end.
func (m Image) chain(g geometry, first uint32, need int) (list []uint32, err error) {
	for c := first; ; {
		if c < 2 || c >= g.clusters+2 {
			return list, fmt.Errorf("the chain from cluster %d goes to %d", first, c)
		}
		if len(list) > int(g.clusters) {
			return list, fmt.Errorf("the chain from cluster %d has no end", first)
		}
		list = append(list, c)
		if len(list) == need {
			return list, nil
		}
		next := m.nextCluster(g, c)
		if next >= 0x0ffffff8 {
			if need > 0 {
				return list, fmt.Errorf("the chain from cluster %d ends early", first)
			}
			return list, nil
		}
		c = next
	}
}

func (m Image) nextCluster(g geometry, cluster uint32) uint32 { return g.entry(m, cluster) }

// longName collects the slots of a long name.
type longName struct {
	units [256 * 13]uint16
	want  byte // number of the slot to come next; 0 when there is none
	all   byte
	sum   byte
}

func (l *longName) add(slot []byte) {
	n := slot[0] &^ lastLong
	switch {
	case slot[0]&lastLong != 0:
		*l = longName{want: n, all: n, sum: slot[13]}
	case l.all == 0 || n != l.want || slot[13] != l.sum:
		*l = longName{}
		return
	}
	if n == 0 || n > 20 {
		*l = longName{}
		return
	}
	for i, at := range longOffsets {
		l.units[int(n-1)*13+i] = binary.LittleEndian.Uint16(slot[at:])
	}
	l.want--
}

// name is the long name, if it is complete and belongs to this slot, or the 8.3 one.
func (l *longName) name(slot []byte) string {
	if l.all > 0 && l.want == 0 && checksum(string(slot[:11])) == l.sum {
		units := l.units[:int(l.all)*13]
		for i, u := range units {
			if u == 0 {
				units = units[:i]
				break
			}
		}
		return string(utf16.Decode(units))
	}
	base, ext := strings.TrimRight(string(slot[:8]), " "), strings.TrimRight(string(slot[8:11]), " ")
	if ext != "" {
		base += "." + ext
	}
	return base
}

// checksum ties the slots of a long name to their 8.3 name.
func checksum(short string) (sum byte) {
	for i := range 11 {
		sum = sum>>1 | sum<<7
		sum += short[i]
	}
	return sum
}

func dotSlot(name string, cluster uint32) []byte {
	slot := make([]byte, slotSize)
	copy(slot, name+strings.Repeat(" ", 11-len(name)))
	slot[11] = attrDir
	binary.LittleEndian.PutUint16(slot[20:], uint16(cluster>>16))
	binary.LittleEndian.PutUint16(slot[26:], uint16(cluster))
	return slot
}

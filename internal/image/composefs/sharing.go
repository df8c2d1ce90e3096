package composefs

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
)

// sharing knows which extended attributes two or more inodes have alike. Those
// stand once in the image, in the shared table.
//
// Most attributes are unlike all others: the digest and the place of each
// object. To keep a million of them out of memory, each is first hashed to one
// bit of a filter; only what meets a bit that is set already is counted exactly.
// So the hash decides what is looked at, never what is shared.
type sharing struct {
	seed     maphash.Seed
	seen     []uint64 // bit sets
	again    []uint64
	counts   map[string]*sharedXattr
	key      []byte // scratch
	table    []*sharedXattr
	tableLen int64
}

// sharedXattr is an attribute in the shared table.
type sharedXattr struct {
	attribute
	count  int
	offset int64 // in the table; -1 when only one inode has it
}

// newSharing prepares for a number of attributes.
func newSharing(attributes int) *sharing {
	words := max(1, attributes/2) // 32 bits for each
	words = 1 << bits.Len(uint(words-1))
	return &sharing{
		seed: maphash.MakeSeed(), seen: make([]uint64, words), again: make([]uint64, words),
		counts: make(map[string]*sharedXattr),
	}
}

func (s *sharing) bit(a *attribute) (word int, mask uint64) {
	h := maphash.String(s.seed, a.key)*0x9e3779b97f4a7c15 ^ maphash.Bytes(s.seed, a.value)
	return int(h>>6) & (len(s.again) - 1), 1 << (h & 63)
}

// mark is the first look at an attribute.
func (s *sharing) mark(a *attribute) {
	word, mask := s.bit(a)
	s.again[word] |= s.seen[word] & mask
	s.seen[word] |= mask
}

// count is the second look, after all were marked.
func (s *sharing) count(a *attribute) {
	if word, mask := s.bit(a); s.again[word]&mask == 0 {
		return
	}
	if e := s.counts[string(s.name(a))]; e != nil {
		e.count++
		return
	}
	s.counts[string(s.key)] = &sharedXattr{count: 1, offset: -1,
		attribute: newAttribute(strings.Clone(a.key), bytes.Clone(a.value))}
}

// name makes the map's key of an attribute; keys hold no zero byte.
func (s *sharing) name(a *attribute) []byte {
	s.key = append(append(append(s.key[:0], a.key...), 0), a.value...)
	return s.key
}

// build makes the table, after all were counted: descending by key, then by the
// value's length, then by its bytes.
func (s *sharing) build() {
	s.seen = nil
	for _, e := range s.counts {
		if e.count > 1 {
			s.table = append(s.table, e)
		}
	}
	slices.SortFunc(s.table, func(a, b *sharedXattr) int {
		if c := strings.Compare(b.key, a.key); c != 0 {
			return c
		}
		if c := len(b.value) - len(a.value); c != 0 {
			return c
		}
		return bytes.Compare(b.value, a.value)
	})
	for _, e := range s.table {
		e.offset = s.tableLen
		s.tableLen += e.size()
	}
}

// offset returns where in the shared table an attribute is, or -1.
func (s *sharing) offset(a *attribute) int64 {
	if word, mask := s.bit(a); s.again[word]&mask == 0 {
		return -1
	}
	if e := s.counts[string(s.name(a))]; e != nil {
		return e.offset
	}
	return -1
}

// split divides the sorted attributes of an inode: refs are the offsets of those
// in the shared table, of which an inode can name only so many; the rest is in
// the inode itself.
func (s *sharing) split(list []attribute, refs []int64) (own []attribute, _ []int64) {
	own, refs = list[:0], refs[:0]
	for i := range list {
		a := list[i]
		if len(refs) < maxSharedRefs {
			if offset := s.offset(&a); offset >= 0 {
				refs = append(refs, offset)
				continue
			}
		}
		own = append(own, a)
	}
	return own, refs
}

package fat32

import (
	"strings"
	"unicode/utf16"
)

// longOffsets is where a slot of a long name has its 13 characters.
var longOffsets = [13]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

// maxSlots is how many slots a long name may have.
const maxSlots = 20

// longName collects the slots of a long name, which come last part first.
type longName struct {
	units []uint16
	next  byte // number of the slot to come; 0 when none is missing
	sum   byte // of the 8.3 name that they belong to
}

func (l *longName) add(slot []byte) {
	n := slot[0] &^ lastLong
	if slot[0]&lastLong != 0 && n > 0 && n <= maxSlots {
		*l = longName{units: make([]uint16, int(n)*len(longOffsets)), next: n, sum: slot[13]}
	}
	if l.next == 0 || n != l.next || slot[13] != l.sum {
		*l = longName{}
		return
	}
	l.next--
	for i, at := range longOffsets {
		l.units[int(l.next)*len(longOffsets)+i] = le.Uint16(slot[at:])
	}
}

// name is the long name, if it is complete and belongs to this slot, or the 8.3 one.
func (l *longName) name(slot []byte) string {
	if len(l.units) > 0 && l.next == 0 && l.sum == checksum(slot) {
		units := l.units
		for i, u := range units {
			if u == 0 {
				units = units[:i]
				break
			}
		}
		return string(utf16.Decode(units))
	}
	// Windows and Linux keep a short name's case in two bits.
	const lowerBase, lowerExt = 0x08, 0x10
	base, ext := strings.TrimRight(string(slot[:8]), " "), strings.TrimRight(string(slot[8:11]), " ")
	if slot[12]&lowerBase != 0 {
		base = strings.ToLower(base)
	}
	if slot[12]&lowerExt != 0 {
		ext = strings.ToLower(ext)
	}
	if ext != "" {
		base += "." + ext
	}
	return base
}

// checksum is what ties the slots of a long name to their 8.3 name.
func checksum(short []byte) (sum byte) {
	for _, c := range short[:11] {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

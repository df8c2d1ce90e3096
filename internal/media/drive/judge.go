package drive

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// MaxSize is the largest drive that is taken for a stick or a card, in bytes.
// What is larger is more likely a disk with somebody's data.
const MaxSize = 256e9

// Refusal says why a drive is not written, and what would help.
type Refusal struct{ reason, cure string }

func (r *Refusal) Error() string { return r.reason }

// Hint is the cure.
func (r *Refusal) Hint() string { return r.cure }

func refuse(reason, cure string) *Refusal { return &Refusal{reason, cure} }

// Wish is what somebody wants to do with a drive.
type Wish struct {
	Size    int64    // bytes that will be written to; 0: as many as there are
	Image   string   // the path of what is written, where that is a file or a drive
	Serials []string // serial numbers by which drives were named
	Fixed   bool     // a disk of the computer is meant, and not a stick
}

// Judge says whether a drive may be overwritten: nil, or a [Refusal].
func (h Host) Judge(d Drive, w Wish) error {
	if w.Image != "" { // as the kernel tells mounts and loop devices: absolute, without links
		if path, err := filepath.EvalSymlinks(w.Image); err == nil {
			w.Image = path
		}
		if path, err := filepath.Abs(w.Image); err == nil {
			w.Image = path
		}
	}
	s, err := h.look(w.Image)
	if err != nil {
		return err
	}
	if r := judge(d, w, s.uses[d.Name]); r != nil {
		return r
	}
	return nil
}

func judge(d Drive, w Wish, uses []use) *Refusal {
	const other = "take another drive; ashlar media drives lists them"
	if d.Size == 0 {
		return refuse(fmt.Sprintf("%s is empty: there is no card or disk in it", d.Path), "put one in")
	}
	slices.SortStableFunc(uses, func(a, b use) int { return int(a.kind) - int(b.kind) })
	for _, u := range uses {
		u.where = shown(u.where)
		switch u.kind {
		case runs:
			return refuse(fmt.Sprintf("%s holds %s: this computer runs from it", d.Path, u.where), other)
		case swaps:
			return refuse(fmt.Sprintf("%s holds the swap %s of this computer", d.Path, u.where), other)
		case sources:
			return refuse(fmt.Sprintf("%s holds what is to be written, %s", d.Path, u.where), other)
		case mounted:
			return refuse(fmt.Sprintf("%s is in use: it is mounted at %s", d.Path, u.where), "umount "+u.where)
		case held:
			return refuse(fmt.Sprintf("%s is in use by %s", d.Path, u.where), cureOfHolder(u.where))
		}
	}
	switch named := d.Serial != "" && slices.Contains(w.Serials, d.Serial); {
	case d.ReadOnly:
		return refuse(fmt.Sprintf("%s cannot be written: it is write-protected", d.Path), "cards and some sticks have a switch for that")
	case d.Size < w.Size:
		return refuse(fmt.Sprintf("%s is too small: it has %d bytes, and %d are needed", d.Path, d.Size, w.Size), "take a larger drive")
	case named, w.Fixed:
		return nil
	case !d.Removable:
		return refuse(fmt.Sprintf("%s is not removable: it may be a disk of this computer", d.Path), cureOfSerial(d))
	case d.Size > MaxSize:
		return refuse(fmt.Sprintf("%s has %.0f GB: it may be a disk with somebody's data", d.Path, float64(d.Size)/1e9), cureOfSerial(d))
	}
	return nil
}

// shown makes a path fit for a terminal, and for a shell.
func shown(path string) string {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("'\"\\$&;|<>()*?`", r) }
	if strings.IndexFunc(path, odd) >= 0 {
		return strconv.Quote(path)
	}
	return path
}

func cureOfSerial(d Drive) string {
	if d.Serial == "" {
		return "it has no serial number to name it by; write the medium to a file, and copy that"
	}
	return fmt.Sprintf("if it is the right one name its serial number too: --serial %q", d.Serial)
}

func cureOfHolder(path string) string {
	if filepath.Dir(path) == "/dev/mapper" {
		return fmt.Sprintf("close it first: vgchange -an for LVM, cryptsetup close for encryption, dmsetup remove %s for others", filepath.Base(path))
	}
	if name := filepath.Base(path); len(name) > 2 && name[:2] == "md" {
		return "stop the array first: mdadm --stop " + path
	}
	return "end what uses " + path + " first"
}

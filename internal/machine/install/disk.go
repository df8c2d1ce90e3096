package install

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
)

// Disk is a whole disk that could be installed to.
type Disk struct {
	ID        string   `json:"id"`   // stable: it says model and serial number, or where the disk is plugged in
	Name      string   `json:"name"` // what the kernel calls it now: "sdb"
	Path      string   `json:"path"` // "/dev/sdb"
	Model     string   `json:"model"`
	Serial    string   `json:"serial"`
	Transport string   `json:"transport"`
	Size      int64    `json:"size"`    // bytes
	Sector    int64    `json:"sector"`  // bytes of a logical sector
	Content   string   `json:"content"` // what is on it, in words; empty: nothing that is known
	Ashlar    bool     `json:"ashlar"`  // it has an Ashlar, whose /var could be kept
	Refused   string   `json:"refused"` // why it is not taken, a sentence; empty: it may be
	AlsoIDs   []string `json:"-"`       // other stable ids
}

// Describe says which disk it is, on one line.
func (d *Disk) Describe() string {
	words := []string{fmt.Sprintf("%.0f GB", float64(d.Size)/1e9)}
	if d.Model != "" {
		words = append(words, d.Model)
	}
	if d.Serial != "" {
		words = append(words, "serial number "+d.Serial)
	}
	content := "empty"
	if d.Content != "" {
		content = "holds " + d.Content
	}
	return fmt.Sprintf("%s: %s; %s", d.Path, strings.Join(words, ", "), content)
}

// IsNamed reports whether word names the disk for good: by a stable id or by its serial number.
func (d *Disk) IsNamed(word string) bool {
	return word != "" && (word == d.ID || word == d.Serial || slices.Contains(d.AlsoIDs, word))
}

// choose finds the disk that the answers name. Several are never guessed between.
func choose(a *DiskAnswer, disks []Disk) (*Disk, error) {
	if a.ID == "" {
		return chooseOnly(disks)
	}
	var found []*Disk
	for i := range disks {
		if disks[i].IsNamed(a.ID) {
			found = append(found, &disks[i])
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("there is no disk %q; there are: %s", a.ID, list(disks))
	case len(found) > 1:
		return nil, fmt.Errorf("%d disks are %q: %s and %s; take another of their ids", len(found), a.ID, found[0].Path, found[1].Path)
	case found[0].Refused != "":
		return nil, fmt.Errorf("cannot install to %s: %s", found[0].Path, found[0].Refused)
	}
	return found[0], nil
}

// chooseOnly takes the one disk of a computer that has one, and nothing on it.
func chooseOnly(disks []Disk) (*Disk, error) {
	var able []*Disk
	for i := range disks {
		if disks[i].Refused == "" {
			able = append(able, &disks[i])
		}
	}
	switch {
	case len(able) == 0:
		return nil, fmt.Errorf("there is no disk to install to: %s", list(disks))
	case len(able) > 1:
		return nil, fmt.Errorf("there are %d disks, and none is named (field %q): %s", len(able), "disk.id", list(disks))
	case able[0].Content != "":
		return nil, fmt.Errorf("the only disk is not empty, and not named (field %q): %s", "disk.id", list(disks))
	}
	return able[0], nil
}

func list(disks []Disk) string {
	var words []string
	for _, d := range disks {
		word := d.ID + " (" + d.Describe() + ")"
		if d.Refused != "" {
			word += ", not taken: " + d.Refused
		}
		words = append(words, word)
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, "; ")
}

// FindAshlar reads a disk's partition table for the two partitions of an
// installed Ashlar.
func FindAshlar(path string, sector int64) (esp, root gpt.Partition, found bool) {
	f, err := os.Open(path)
	if err != nil {
		return esp, root, false
	}
	defer f.Close()
	table, err := gpt.Read(f, sector)
	if err != nil {
		return esp, root, false
	}
	for _, p := range table.Partitions {
		switch {
		case p.Type == gpt.TypeESP && p.Name == gpt.NameESP:
			esp = p
		case p.Type == gpt.TypeRoot && p.Name == gpt.NameRoot:
			root = p
		}
	}
	return esp, root, esp.Size > 0 && root.Size > 0
}

package sysroot

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anatol/devmapper.go"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/medium"
)

const (
	// mediumTimeout is how long to wait for the medium: a disc has to start
	// turning, and a stick to wake up.
	mediumTimeout = 60 * time.Second

	// lookAgain is how often to look without a device being announced: nobody
	// tells when a drive can read its disc.
	lookAgain = time.Second
)

// Names of the mapped devices, and their modules.
const (
	mediumName  = "ashlar-medium"  // the payload partition
	payloadName = "ashlar-payload" // what dm-verity gives of it
)

var mediumModules = []string{"dm_mod", "dm_verity"}

// Medium is what is known of the medium that a system runs from.
type Medium struct {
	Device   string `json:"device"`    // whole, such as "/dev/sr0"
	RootHash string `json:"root_hash"` // dm-verity's, of the payload
	Payload  string `json:"payload"`   // the device that gives the checked payload, such as "/dev/dm-1"
	Papers   Region `json:"papers"`    // of the device; not covered by the seal
	Answers  Region `json:"answers"`   // the same
}

// Region is a part of a device, in bytes.
type Region struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// payload is a partition that may hold what the boot file names.
type payload struct {
	device          string // whole
	start, size     int64  // of the partition, in bytes
	papers, answers Region
	super           medium.Superblock
}

// findMedium loads drivers as devices appear until the payload that the boot
// file names is there.
//
// It is found by content. Two sticks with the same payload are the same system, so either
// will do, and where the loader came from need not be known; for a disc it is not.
func (b *boot) findMedium() error {
	if err := b.listen(); err != nil {
		return err
	}
	if _, err := b.readBootPartition(); err != nil { // mounts efivarfs
		return err
	}
	for end := time.Now().Add(mediumTimeout); ; {
		p, seen := findPayload("/sys", "/dev", b.params.medium)
		if p != nil {
			return b.mapMedium(p)
		}
		if b.moreDevices(min(lookAgain, time.Until(end))) || time.Now().Before(end) {
			continue
		}
		if len(seen) == 0 {
			return fmt.Errorf("no install medium appeared within %v", mediumTimeout)
		}
		return errors.New(strings.Join(seen, "; "))
	}
}

// findPayload looks at every device for a payload whose hash tree has that root.
// seen says what is wrong with others.
func findPayload(sys, dev, root string) (found *payload, seen []string) {
	entries, err := os.ReadDir(filepath.Join(sys, "block"))
	if err != nil || len(entries) > maxDisks {
		return nil, nil
	}
	for _, e := range entries {
		name := e.Name()
		if virtual := slices.ContainsFunc([]string{"ram", "zram", "loop", "dm-"}, func(p string) bool { return strings.HasPrefix(name, p) }); virtual {
			continue
		}
		if readNumber(filepath.Join(sys, "block", name, "size")) <= 0 {
			continue
		}
		device := filepath.Join(dev, name)
		switch p, err := readPayload(device, root); {
		case err != nil:
			seen = append(seen, fmt.Sprintf("the medium %q is damaged or was changed: %v", device, err))
		case p != nil:
			return p, nil
		}
	}
	return nil, seen
}

// readPayload looks at one device; nil, nil: it is no medium. That its root hash
// is right proves one block, and the kernel the others from there, as they are read.
func readPayload(device, root string) (*payload, error) {
	f, err := os.Open(device)
	if err != nil {
		return nil, nil // such as a drive without a disc
	}
	defer f.Close()
	table, err := gpt.Read(f, medium.SectorSize) // also of a disc, whose own are larger
	if err != nil {
		return nil, nil
	}
	p := &payload{device: device}
	for _, part := range table.Partitions {
		region := Region{part.Start, part.Size}
		switch part.Type {
		case medium.TypePayload:
			p.start, p.size = part.Start, part.Size
		case medium.TypePapers:
			p.papers = region
		case medium.TypeAnswers:
			p.answers = region
		}
	}
	if p.size == 0 {
		return nil, nil
	}
	return p, p.check(f, root)
}

// check finds the hash tree and compares its top.
func (p *payload) check(f io.ReaderAt, root string) (err error) {
	r := io.NewSectionReader(f, p.start, p.size)
	if p.super, err = medium.ReadPayload(r, p.size); err != nil {
		return err
	}
	top := make([]byte, medium.BlockSize)
	if _, err := r.ReadAt(top, p.super.TreeOffset()); err != nil {
		return fmt.Errorf("reading the payload's hash tree: %w", err)
	}
	sum := sha256.Sum256(top)
	if got := hex.EncodeToString(sum[:]); got != root {
		return fmt.Errorf("its payload has the root hash %.12s, and this boot file is for %.12s", got, root)
	}
	return nil
}

// mapMedium makes the kernel check what is read of the payload from here on.
//
// The partition is mapped by device mapper too, and not through a loop device or
// the kernel's own partitions: a disc has none, and from now on the kernel knows the
// device as taken, so that nobody writes to it or installs on it.
func (b *boot) mapMedium(p *payload) error {
	if err := errors.Join(b.loader.loadAll(mediumModules), b.loaded()); err != nil {
		return err
	}
	err := devmapper.CreateAndLoad(mediumName, "", devmapper.ReadOnlyFlag, devmapper.LinearTable{
		Length: uint64(p.size), BackendDevice: p.device, BackendOffset: uint64(p.start),
	})
	if err != nil {
		return fmt.Errorf("mapping the payload of %q: %w", p.device, err)
	}
	below, err := mapped(mediumName)
	if err != nil {
		return err
	}
	data := uint64(p.super.DataSize())
	err = devmapper.CreateAndLoad(payloadName, "CRYPT-VERITY-"+b.params.medium[:32]+"-"+payloadName, devmapper.ReadOnlyFlag, devmapper.VerityTable{
		Length: data, HashType: 1, DataDevice: below, HashDevice: below,
		DataBlockSize: medium.BlockSize, HashBlockSize: medium.BlockSize,
		NumDataBlocks: data / medium.BlockSize, HashStartBlock: uint64(p.super.TreeOffset()) / medium.BlockSize,
		Algorithm: "sha256", Digest: b.params.medium, Salt: "-",
	})
	if err != nil {
		return fmt.Errorf("sealing the payload of %q: %w", p.device, err)
	}
	checked, err := mapped(payloadName)
	if err != nil {
		return err
	}
	b.record.Disk = filepath.Base(p.device)
	b.record.Medium = &Medium{Device: p.device, RootHash: b.params.medium, Payload: checked, Papers: p.papers, Answers: p.answers}
	b.mediumBelow = below
	return nil
}

// Sealed reports whether the root is what ashlar-init mounts from a medium: a
// read-only overlay over the payload that dm-verity gives.
func (m *Medium) Sealed(mounts []Mount) bool {
	root, payload := false, false
	for _, mount := range mounts {
		readOnly := slices.Contains(mount.Options, "ro")
		switch mount.Point {
		case "/":
			root = mount.Type == "overlay" && readOnly
		case "/sysroot":
			payload = mount.Type == "erofs" && readOnly && mount.Source == m.Payload
		}
	}
	return root && payload
}

// unreadable says what is wrong with the first block that the payload does not
// give: below is the same data before it is checked.
func unreadable(device string, below io.ReaderAt, block int64) error {
	if _, err := below.ReadAt(make([]byte, medium.BlockSize), block*medium.BlockSize); err != nil {
		return fmt.Errorf("the medium %q cannot be read at block %d of its payload: %w; it is worn out, or was pulled out", device, block, err)
	}
	return fmt.Errorf("the medium %q is damaged or was changed: block %d of its payload is not what was signed", device, block)
}

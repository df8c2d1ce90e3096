package diskimage

import (
	"fmt"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/publish/esp"
	"github.com/ashlar-os/ashlar/internal/publish/identity"
)

// Sizes in bytes.
const (
	sectorSize = 512

	mib = int64(1) << 20
	gib = int64(1) << 30

	DefaultESPSize = gib

	minESPSize = esp.MinSize
	maxSize    = 1 << 44 // 16 TiB
	alignment  = mib
	blockSize  = 4096
	journal    = 64 * mib
)

// layout is where everything on the disk goes, computed before anything is written.
type layout struct {
	size       int64 // of the disk
	esp, root  gpt.Partition
	rootBlocks int64
	inodes     int64
	content    int64 // what the image will take on the disk that holds it
}

// identityOf is what the ids of the disk are derived from.
func identityOf(c Content, o Options) identity.Identity {
	return identity.Identity{Format: "ashlar disk 1", Image: c.Release.Root().Digest, Seed: o.Seed}
}

// planLayout chooses sizes that the options leave open and refuses those that
// cannot work.
func planLayout(c Content, o Options, uki, erofs int64) (l layout, err error) {
	id := identityOf(c, o)
	espSize := o.ESPSize
	if espSize == 0 {
		espSize = DefaultESPSize
	}
	switch loaders := 2 * int64(len(c.Loader)); {
	case espSize%alignment != 0 || espSize < minESPSize:
		return l, fmt.Errorf("the ESP cannot have %d bytes: it needs whole MiB and at least %d", espSize, minESPSize)
	case espSize < 3*uki+loaders+16*mib:
		return l, fmt.Errorf("an ESP of %d MiB is too small: it must hold the boot files of three deployments, each of %d MiB", espSize/mib, mibs(uki))
	}

	used, files := rootUse(c.Objects, erofs)
	room := used + used/16 + journal + 64*mib // metadata and the least of room to work
	rootSize := roundUp(3*used+gib, 64*mib)   // three images that share nothing, and /var
	if o.Size != 0 {
		rootSize = (o.Size - espSize - 2*alignment) / alignment * alignment
	}
	switch {
	case rootSize < room:
		return l, fmt.Errorf("a disk of %d MiB is too small: the ESP needs %d MiB and the root partition at least %d MiB", mibs(o.Size), mibs(espSize), mibs(room))
	case rootSize > maxSize:
		return l, fmt.Errorf("a disk of %d MiB is too large", mibs(o.Size))
	}
	l.size = 2*alignment + espSize + rootSize
	if o.Size != 0 {
		l.size = o.Size / sectorSize * sectorSize
	}
	l.esp = gpt.Partition{Type: gpt.TypeESP, ID: id.UUID("esp"), Name: gpt.NameESP, Start: alignment, Size: espSize}
	l.root = gpt.Partition{Type: gpt.TypeRoot, ID: id.UUID("root"), Name: gpt.NameRoot, Start: alignment + espSize, Size: rootSize}
	l.rootBlocks = rootSize / blockSize
	l.inodes = max(rootSize/16384, 4*files)
	l.content = used + uki + 2*int64(len(c.Loader)) + 16*mib
	return l, nil
}

// rootUse is what the objects and the image take on the root partition once
// sealed, in bytes, and the number of files and directories. fs-verity adds
// one hash block for each 128 blocks, level by level, and a descriptor.
func rootUse(objects []tree.Object, erofs int64) (used, files int64) {
	add := func(size int64) {
		blocks := (size + blockSize - 1) / blockSize
		used += (blocks + 1) * blockSize
		for blocks > 1 {
			blocks = (blocks + 127) / 128
			used += blocks * blockSize
		}
		files++
	}
	for _, obj := range objects {
		add(int64(obj.Size))
	}
	add(erofs)
	const directories = 256 + 16
	return used + directories*blockSize, files + directories
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// mibs is n bytes in MiB, rounded up: for messages.
func mibs(n int64) int64 { return (n + mib - 1) / mib }

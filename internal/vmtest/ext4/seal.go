package ext4

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
)

// What fs-verity keeps of a file: behind the content, from the next multiple of
// 64 KiB, its hash tree, with the root's level first; then the descriptor, from the
// start of a block; and at the very end of the last extent the descriptor's length
// (fs/ext4/verity.c).
const (
	sealAlign      = 64 << 10
	sealBlock      = 4096
	descriptorSize = 256
	maxSealed      = 1 << 30
)

// ErrNotSealed is returned for a file without fs-verity.
var ErrNotSealed = errors.New("the file is not sealed")

// Measure is what the kernel would measure of a sealed file: the sha256 of its
// descriptor. The content and every block of the hash tree are read and checked
// against it, so that no read of the file can fail either.
func (f *File) Measure() (digest [sha256.Size]byte, err error) {
	if !f.Sealed() {
		return digest, ErrNotSealed
	}
	extents, err := f.Extents()
	if err != nil || len(extents) == 0 {
		return digest, fmt.Errorf("a sealed file has no blocks: %w", err)
	}
	content, err := f.ReadAll(maxSealed)
	if err != nil {
		return digest, err
	}
	last := extents[len(extents)-1]
	end := (last.Logical + last.Length) * f.fs.blockSize
	var length [4]byte
	if err := f.readFrom(length[:], end-4); err != nil {
		return digest, err
	}
	n := int64(le.Uint32(length[:]))
	if n < descriptorSize || n > 16<<10 || n > end-4 {
		return digest, fmt.Errorf("the descriptor has %d bytes", n)
	}
	descriptor := make([]byte, descriptorSize)
	if err := f.readFrom(descriptor, (end-4-n)/f.fs.blockSize*f.fs.blockSize); err != nil {
		return digest, err
	}
	// Version 1, sha256, blocks of 4096 bytes, no salt, no signature.
	if descriptor[0] != 1 || descriptor[1] != 1 || descriptor[2] != 12 || descriptor[3] != 0 || le.Uint32(descriptor[4:]) != 0 {
		return digest, fmt.Errorf("the descriptor begins with % x", descriptor[:8])
	}
	if size := int64(le.Uint64(descriptor[8:])); size != f.Size {
		return digest, fmt.Errorf("the descriptor is of %d bytes, the file has %d", size, f.Size)
	}
	tree, root := hashTree(content)
	if !bytes.Equal(descriptor[16:16+sha256.Size], root[:]) {
		return digest, errors.New("the content is not what was sealed")
	}
	stored := make([]byte, len(tree))
	if err := f.readFrom(stored, (f.Size+sealAlign-1)/sealAlign*sealAlign); err != nil {
		return digest, err
	}
	if !bytes.Equal(stored, tree) {
		return digest, errors.New("the hash tree is not that of the content")
	}
	return sha256.Sum256(descriptor), nil
}

// hashTree makes the tree as it is stored, and its root hash. One block is its own root.
func hashTree(content []byte) (tree []byte, root [sha256.Size]byte) {
	if len(content) == 0 {
		return nil, root
	}
	hash := func(b []byte) [sha256.Size]byte {
		if len(b) < sealBlock {
			b = append(bytes.Clone(b), make([]byte, sealBlock-len(b))...)
		}
		return sha256.Sum256(b[:sealBlock])
	}
	level := content
	for len(level) > sealBlock {
		var up []byte
		for at := 0; at < len(level); at += sealBlock {
			h := hash(level[at:])
			up = append(up, h[:]...)
		}
		if rest := len(up) % sealBlock; rest > 0 {
			up = append(up, make([]byte, sealBlock-rest)...)
		}
		tree = append(up, tree...)
		level = up
	}
	return tree, hash(level)
}

package store

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Space is what a file system has left for the caller.
type Space struct {
	Free   int64 `json:"free"`   // bytes
	Total  int64 `json:"total"`  // bytes
	Inodes int64 `json:"inodes"` // free inodes; -1 where the file system has no limit
	Block  int64 `json:"block"`  // bytes that a file's size is rounded up to
}

// Space asks the file system of the store.
func (s *Store) Space() (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.Dir, &st); err != nil {
		return Space{}, fmt.Errorf("asking for the free space of %q: %w", s.Dir, err)
	}
	sp := Space{
		Free:   int64(st.Bavail) * int64(st.Bsize),
		Total:  int64(st.Blocks) * int64(st.Bsize),
		Inodes: int64(st.Ffree),
		Block:  int64(st.Bsize),
	}
	if st.Files == 0 { // btrfs makes inodes as it goes
		sp.Inodes = -1
	}
	return sp, nil
}

// Need is what files of these sizes take on this file system, in bytes: whole
// blocks, plus the hash tree and the descriptor that sealing adds to each.
func (sp Space) Need(sizes ...int64) int64 {
	block := max(sp.Block, 1)
	up := func(n int64) int64 { return (n + block - 1) / block * block }
	var sum int64
	for _, n := range sizes {
		// One 32-byte hash per 4096 bytes, per level; below 1 % in all. The
		// descriptor takes a block of its own past the tree (ext4).
		tree := n / 100
		sum += up(n) + up(tree) + block
	}
	return sum
}

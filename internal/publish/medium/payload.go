package medium

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/go-dmverity/pkg/verity"
	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/program"
)

// clusterSize is how much EROFS compresses at once, in bytes. Large clusters pack
// better; what reads a medium reads files whole.
const clusterSize = 64 << 10

// makePayload makes the payload and its hash tree, and sets j.rootHash.
func (j *job) makePayload(ctx context.Context) error {
	stage := filepath.Join(j.work, "payload.d")
	if err := j.stage(stage); err != nil {
		return fmt.Errorf("collecting the payload: %w", err)
	}
	// Owners, times and the id are given, extended attributes left out: all that
	// remains of the staging directory is names, modes and contents.
	_, err := program.Run(ctx, program.Command{Args: []string{
		"mkfs.erofs", "-zlz4hc", "-C" + strconv.Itoa(clusterSize), "-x-1", "--all-root",
		"-T" + strconv.FormatInt(j.epoch.Unix(), 10), "-U" + j.id.UUID("payload").String(), j.payload(), stage,
	}})
	if err != nil {
		return fmt.Errorf("making the payload: %w", err)
	}
	if err := os.RemoveAll(stage); err != nil {
		return err
	}
	if err := j.seal(); err != nil {
		return fmt.Errorf("sealing the payload: %w", err)
	}
	return nil
}

// stage puts what the payload holds into a directory, as links where that works.
func (j *job) stage(dir string) error {
	c, store := j.content, filepath.Join(dir, medium.Store)
	for _, made := range []struct {
		name string
		mode os.FileMode
	}{{"", 0o755}, {medium.Store, 0o755}, {medium.Store + "/objects", 0o700}, {medium.Store + "/images", 0o700}} {
		if err := mkdir(filepath.Join(dir, made.name), made.mode); err != nil {
			return err
		}
	}
	if err := place(c.EROFS, filepath.Join(store, "images", c.Image.String())); err != nil {
		return err
	}
	if err := place(c.UKI, filepath.Join(dir, medium.UKI)); err != nil {
		return err
	}
	loader := filepath.Join(j.work, "loader.efi")
	if err := os.WriteFile(loader, c.Loader, 0o444); err != nil {
		return err
	}
	if err := place(loader, filepath.Join(dir, medium.Loader)); err != nil {
		return err
	}
	made := make(map[byte]bool)
	for _, obj := range c.Objects {
		name := obj.Digest.String()
		parent := filepath.Join(store, "objects", name[:2])
		if !made[obj.Digest[0]] {
			made[obj.Digest[0]] = true
			if err := mkdir(parent, 0o700); err != nil {
				return err
			}
		}
		if err := placeObject(c.Object(obj.Digest), filepath.Join(parent, name[2:]), obj); err != nil {
			return err
		}
	}
	return nil
}

// mkdir makes a directory of exactly that mode, whatever the umask.
func mkdir(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func placeObject(source, path string, obj tree.Object) error {
	if err := place(source, path); err != nil {
		return fmt.Errorf("object %q: %w", obj.Digest, err)
	}
	info, err := os.Stat(path)
	if err == nil && info.Size() != int64(obj.Size) {
		err = fmt.Errorf("object %q has %d bytes, not the %d that the image says", obj.Digest, info.Size(), obj.Size)
	}
	return err
}

// place makes path a read-only file with the content of source: a hard link, whose
// mode is then the source's too, or a copy where the two are on different file systems.
func place(source, path string) error {
	err := os.Link(source, path)
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EMLINK) || errors.Is(err, unix.EPERM) {
		err = copyFile(source, path)
	}
	if err != nil {
		return err
	}
	return os.Chmod(path, 0o444)
}

func copyFile(source, path string) (err error) {
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	_, err = io.Copy(to, from)
	return err
}

// seal writes the hash tree behind the file system, with every parameter given:
// none is left to a library's or a tool's default.
func (j *job) seal() error {
	f, err := os.OpenFile(j.payload(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if size%medium.BlockSize != 0 {
		return fmt.Errorf("the file system has %d bytes, which are no whole blocks of %d", size, medium.BlockSize)
	}
	blocks := uint64(size / medium.BlockSize)
	super := verity.DefaultSuperblock()
	super.DataBlocks, super.UUID = blocks, j.id.UUID("verity")
	// The tree's blocks are zero where nothing is written; the superblock's too.
	place := medium.Superblock{DataBlocks: int64(blocks), Offset: size}
	if err := f.Truncate(place.End()); err != nil {
		return err
	}
	if err := super.WriteSuperblock(f, uint64(size)); err != nil {
		return err
	}
	hash := verity.NewCryptHash("sha256", medium.BlockSize, medium.BlockSize, blocks, 1, nil,
		uint64(place.TreeOffset()), j.payload(), j.payload(), nil)
	if err := hash.CreateOrVerifyHashTree(false); err != nil {
		return err
	}
	copy(j.rootHash[:], hash.RootHash())
	// What a machine will look for has to be what it finds.
	found, err := medium.ReadPayload(f, place.End())
	if err == nil && found.Offset != size {
		err = fmt.Errorf("the file system of %d bytes says that it has %d (root hash %s)", size, found.Offset, hex.EncodeToString(j.rootHash[:]))
	}
	return err
}

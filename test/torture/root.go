package torture

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/vmtest/ext4"
	"github.com/ashlar-os/ashlar/internal/vmtest/writelog"
)

// rootView is what a root partition holds.
type rootView struct {
	err   error
	torn  bool              // nothing else is known, see superblockTorn
	whole map[string]error  // of each version: what is missing for it to boot
	files map[string]string // below /ashlar/var, of those that were written
}

// Exit statuses of e2fsck(8).
const fsckRepaired = 1

// Limits on what is read whole.
const (
	maxImage    = 64 << 20
	maxDocument = 64 << 10
)

// lookRoot checks the present root partition, or knows what it holds.
func (j *Judge) lookRoot(ctx context.Context) (*rootView, error) {
	key := j.replay.Key(j.root.Section)
	if v := j.rootSeen[key]; v != nil {
		return v, nil
	}
	v := &rootView{whole: make(map[string]error), files: make(map[string]string)}
	if j.superblockTorn() {
		v.torn = true
		j.Report.Superblocks++
		j.rootSeen[key] = v
		return v, nil
	}
	undo, err := j.check(ctx, v)
	if err != nil {
		return nil, err
	}
	if v.err == nil {
		v.err = j.readRoot(v)
	}
	if err := undo(); err != nil {
		return nil, err
	}
	j.Report.Roots++
	j.rootSeen[key] = v
	return v, nil
}

// superblockTorn reports whether the cut left one half of ext4's superblock, which
// has two sectors, and not the other. Its checksum is then wrong, and no Linux mounts
// the file system before e2fsck has mended it. No order of writes avoids that; what
// does is a drive that writes 4096 bytes whole, as nearly all do.
func (j *Judge) superblockTorn() bool {
	_, err := ext4.Open(j.root, j.root.Length)
	if !errors.Is(err, ext4.ErrSuperblock) {
		return false
	}
	const half = writelog.SectorSize
	first := j.replay.Arrived(writelog.Section{At: j.root.At + 2*half, Length: half})
	second := j.replay.Arrived(writelog.Section{At: j.root.At + 3*half, Length: half})
	return first != second
}

// check has e2fsck do what the kernel does when it mounts: replay the journal and
// finish what was being deleted. After that nothing may be left to repair. undo
// takes back what e2fsck did.
func (j *Judge) check(ctx context.Context, v *rootView) (undo func() error, err error) {
	if err := os.RemoveAll(j.undoFile); err != nil {
		return nil, &Trouble{err}
	}
	code, said, err := run(ctx, "e2fsck", "-p", "-z", j.undoFile, j.root.Name())
	if err != nil {
		return nil, err
	}
	if code&^fsckRepaired != 0 {
		v.err = fmt.Errorf("e2fsck cannot replay the journal (%d): %s", code, said)
	}
	if v.err == nil {
		if code, said, err = run(ctx, "e2fsck", "-f", "-n", j.root.Name()); err != nil {
			return nil, err
		}
		if code != 0 {
			v.err = fmt.Errorf("after the journal, e2fsck still finds (%d): %s", code, said)
		}
	}
	return func() error {
		// Without a file there was nothing to write.
		if _, err := os.Stat(j.undoFile); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		code, _, err := run(ctx, "e2undo", j.undoFile, j.root.Name())
		if err == nil && code != 0 { // e2fsck gave up, and did not end the file
			if err := j.root.Restore(); err != nil {
				return &Trouble{err}
			}
		}
		return err
	}, nil
}

func (j *Judge) readRoot(v *rootView) error {
	disk, err := ext4.Open(j.root, j.root.Length)
	if err != nil {
		return err
	}
	for version, image := range j.Images {
		v.whole[version] = j.wholeImage(disk, image)
		if j.Medium != "" && v.whole[version] == nil {
			v.whole[version] = settled(disk, image)
		}
	}
	for _, p := range append(j.Promises[:len(j.Promises):len(j.Promises)], j.Careless) {
		if b, err := readFile(disk, "/ashlar/var/"+p.Path); err == nil {
			v.files[p.Path] = string(b)
		}
	}
	return nil
}

func readFile(disk *ext4.FS, path string) ([]byte, error) {
	file, err := disk.Lookup(path)
	if err != nil {
		return nil, err
	}
	return file.ReadAll(maxDocument)
}

// wholeImage says what an image lacks for it to boot: itself, one of its objects, or
// what is written about it.
func (j *Judge) wholeImage(disk *ext4.FS, image string) error {
	dir := "/ashlar/deployments/" + image + "/"
	b, err := readFile(disk, dir+"deployment.json")
	if err != nil {
		return err
	}
	var deployment struct {
		Image   string
		Release string
	}
	if err := json.Unmarshal(b, &deployment); err != nil || deployment.Image != image {
		return fmt.Errorf("deployment.json is %q: %w", b, err)
	}
	document, err := readFile(disk, dir+"release.json")
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(document); "sha256:"+hex.EncodeToString(sum[:]) != deployment.Release {
		return fmt.Errorf("release.json is not the document %s", deployment.Release)
	}
	file, err := disk.Lookup("/ashlar/images/" + image)
	if err != nil {
		return err
	}
	if err := j.sealedAs(file, image); err != nil {
		return fmt.Errorf("the image: %w", err)
	}
	objects, known := j.objects[image]
	if !known {
		b, err := file.ReadAll(maxImage)
		if err != nil {
			return err
		}
		t, err := composefs.ReadBytes(b)
		if err != nil {
			return err
		}
		objects = t.Objects()
		j.objects[image] = objects
	}
	dirs := make(map[string]map[string]uint32)
	for _, o := range objects {
		digest := o.Digest.String()
		entries := dirs[digest[:2]]
		if entries == nil {
			if entries, err = disk.Entries("/ashlar/objects/" + digest[:2]); err != nil {
				return err
			}
			dirs[digest[:2]] = entries
		}
		inode, ok := entries[digest[2:]]
		if !ok {
			return fmt.Errorf("object %s is missing", o.Digest.Short())
		}
		object, err := disk.Inode(inode)
		if err != nil {
			return err
		}
		if err := j.sealedAs(object, digest); err != nil {
			return fmt.Errorf("object %s: %w", o.Digest.Short(), err)
		}
	}
	return nil
}

// sealedAs says why a file does not have a digest for its seal. The bytes are read
// once, as long as they, the length and the place stay the same.
func (j *Judge) sealedAs(file *ext4.File, digest string) error {
	ranges, err := file.Ranges()
	if err != nil {
		return err
	}
	h := sha256.New()
	fmt.Fprintln(h, digest, file.Size, file.Sealed(), ranges)
	for _, r := range ranges {
		j.replay.Fingerprint(h, j.root.At+r.At, r.Length)
	}
	key := string(h.Sum(nil))
	err, known := j.sealed[key]
	if !known {
		if err = measured(file, digest); err != nil {
			err = fmt.Errorf("inode %d: %w", file.Inode, err)
		}
		j.sealed[key] = err
	}
	return err
}

func measured(file *ext4.File, digest string) error {
	got, err := file.Measure()
	if err != nil {
		return err
	}
	if s := hex.EncodeToString(got[:]); s != digest {
		return fmt.Errorf("it is sealed as %s", s)
	}
	return nil
}

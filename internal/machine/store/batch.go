package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// sealers is how many files of a batch are sealed at once. Each spends its
// time waiting for the disk, so this is about queue depth, not about cores.
const sealers = 32

// bufferSize is how much of a file is read and written at once, in bytes: each write of
// a part costs a file system what it costs to note that the file has grown.
const bufferSize = 256 << 10

// Batch writes any number of objects and makes them durable together.
//
// Its steps, and what a cut after each leaves:
//
//	written   files in tmp/; nobody knows them, CleanTmp removes them
//	sealed    the same
//	synced    the same, but every byte and every seal is on the disk
//	named     some or all have their names, each of them whole
//	durable   all have their names, whatever happens next
//
// The order does not lean on what a file system does with a rename of a file
// it has not written yet: ext4 does flush data before the verity flag can be
// committed, btrfs promises less, and the syncfs between sealing and naming
// makes both the same.
type Batch struct {
	s    *Store
	dir  string
	seq  atomic.Int64
	seal *errgroup.Group
	bad  context.Context // done when sealing a file has failed; its cause is why

	buffers sync.Pool // of *[bufferSize]byte

	mu    sync.Mutex
	ready []written
	done  bool
}

// written is one file in the batch's directory, by its number there, and what it
// is. An image has up to hundreds of thousands: their paths would be most of what
// an update keeps in memory.
type written struct {
	number int64
	digest verity.Digest
	image  bool // or an object
}

func (b *Batch) tmpPath(number int64) string {
	return filepath.Join(b.dir, strconv.FormatInt(number, 10))
}

// pathOf is the name that a file has or shall have.
func (s *Store) pathOf(w written) string {
	if w.image {
		return s.ImagePath(w.digest)
	}
	return s.ObjectPath(w.digest)
}

// NewBatch begins a batch. It must be ended by Commit or Abort.
func (s *Store) NewBatch() (*Batch, error) {
	if err := os.MkdirAll(s.path(tmpDir), 0o700); err != nil {
		return nil, fmt.Errorf("beginning batch: %w", err)
	}
	dir, err := os.MkdirTemp(s.path(tmpDir), "batch-")
	if err != nil {
		return nil, fmt.Errorf("beginning batch: %w", err)
	}
	b := &Batch{s: s, dir: dir, buffers: sync.Pool{New: func() any { return new([bufferSize]byte) }}}
	b.seal, b.bad = errgroup.WithContext(context.Background())
	b.seal.SetLimit(sealers)
	return b, nil
}

// PutObject writes the object d of size bytes from r. It may be called from
// several goroutines. The object exists in the store once Commit has returned.
//
// That the content is the object's is known when it has been sealed, which goes
// on while other objects are written: what is wrong with it may be said by
// Commit or by the next call.
func (b *Batch) PutObject(d verity.Digest, size int64, r io.Reader) error {
	if err := b.put(written{digest: d}, size, r); err != nil {
		return fmt.Errorf("storing object %s: %w", d.Short(), err)
	}
	return nil
}

// PutImage writes the image d of size bytes from r. An image should be
// committed only after its objects are.
func (b *Batch) PutImage(d verity.Digest, size int64, r io.Reader) error {
	if err := b.put(written{digest: d, image: true}, size, r); err != nil {
		return fmt.Errorf("storing image %s: %w", d.Short(), err)
	}
	return nil
}

func (b *Batch) put(w written, size int64, r io.Reader) error {
	if b.bad.Err() != nil {
		return context.Cause(b.bad)
	}
	w.number = b.seq.Add(1)
	tmp := b.tmpPath(w.number)
	buffer := b.buffers.Get().(*[bufferSize]byte)
	err := writeExactly(tmp, size, r, buffer[:])
	b.buffers.Put(buffer)
	if err != nil {
		os.Remove(tmp)
		return err
	}
	b.seal.Go(func() error {
		if err := sealFile(b.s.Sealer, tmp, w.digest); err != nil {
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.ready = append(b.ready, w)
		return nil
	})
	return nil
}

// writeExactly writes the size bytes of r to a new file, by way of buffer. They are
// not hashed here: sealing does that, and a file that turns out wrong never gets a name.
func writeExactly(path string, size int64, r io.Reader, buffer []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	defer f.Close()
	w := &exactWriter{f: f, left: size, size: size}
	if _, err := io.CopyBuffer(w, r, buffer); err != nil {
		return err
	}
	if w.left > 0 {
		return fmt.Errorf("the content ends after %d of %d bytes", size-w.left, size)
	}
	if err := f.Chmod(0o444); err != nil {
		return err
	}
	return f.Close()
}

// exactWriter refuses more than size bytes. It hides that f can read from a
// reader by itself, so that a reader that holds its bytes hands them over as
// they are (io.WriterTo).
type exactWriter struct {
	f          *os.File
	left, size int64
}

func (w *exactWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > w.left {
		return 0, fmt.Errorf("the content is longer than the %d bytes announced", w.size)
	}
	n, err := w.f.Write(p)
	w.left -= int64(n)
	return n, err
}

// sealFile seals a file that nobody has open for writing and measures it.
func sealFile(s Sealer, path string, d verity.Digest) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.Seal(f); err != nil {
		return err
	}
	got, err := s.Measure(f)
	if err != nil {
		return err
	}
	if got != d {
		return &DigestError{Path: path, Want: d, Got: got}
	}
	return nil
}

// Commit gives everything its name and returns when all of it would survive a
// power cut. On error some objects may be in the store, each of them whole.
func (b *Batch) Commit(ctx context.Context) error {
	if b.done {
		return errors.New("committing batch: it has ended already")
	}
	defer b.Abort()
	if err := b.seal.Wait(); err != nil {
		return fmt.Errorf("committing batch: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(b.ready) == 0 {
		return nil
	}
	if err := syncFS(b.s.Dir); err != nil {
		return fmt.Errorf("committing batch: %w", err)
	}
	made := make(map[string]bool)
	for _, w := range b.ready {
		final := b.s.pathOf(w)
		dir := filepath.Dir(final)
		if !made[dir] {
			if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("committing batch: %w", err)
			}
			made[dir] = true
		}
		tmp := b.tmpPath(w.number)
		dropCached(tmp)
		// Renaming over an existing name heals it: it is either the same bytes
		// or was found unsealed or wrong. Whoever has the old file open keeps it.
		if err := os.Rename(tmp, final); err != nil {
			return fmt.Errorf("committing batch: %w", err)
		}
	}
	if err := syncFS(b.s.Dir); err != nil {
		return fmt.Errorf("committing batch: %w", err)
	}
	return nil
}

// dropCached tells the kernel that nobody reads this file soon: the next to do so
// is the next boot. An update then leaves in memory what the running system uses,
// and its own files follow each other through the same few pages. It is advice:
// that it was not taken is no error. Only what is on the disk already can be dropped.
func dropCached(path string) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	_ = unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
	_ = unix.Close(fd)
}

// Abort ends the batch and removes what was not committed. After Commit it
// does nothing.
func (b *Batch) Abort() {
	if b.done {
		return
	}
	b.done = true
	_ = b.seal.Wait() // its error has been returned by Commit, or nobody wants it
	_ = os.RemoveAll(b.dir)
}

// PutObject writes one object durably; many go through a Batch.
func (s *Store) PutObject(ctx context.Context, d verity.Digest, size int64, r io.Reader) error {
	return s.one(ctx, func(b *Batch) error { return b.PutObject(d, size, r) })
}

// PutImage writes the image d durably.
func (s *Store) PutImage(ctx context.Context, d verity.Digest, size int64, r io.Reader) error {
	return s.one(ctx, func(b *Batch) error { return b.PutImage(d, size, r) })
}

func (s *Store) one(ctx context.Context, put func(*Batch) error) error {
	b, err := s.NewBatch()
	if err != nil {
		return err
	}
	defer b.Abort()
	if err := put(b); err != nil {
		return err
	}
	return b.Commit(ctx)
}

// syncFS brings everything written to the file system of dir to the disk.
func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("syncing the file system of %q: %w", dir, err)
	}
	return nil
}

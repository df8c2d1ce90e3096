package update

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// bootFileName is the boot file of the installed system in a payload.
const bootFileName = "boot.efi"

// Medium is a stick or a disc that holds one release, whole.
type Medium struct {
	Document []byte            // the release document
	Trust    map[string][]byte // the signed metadata, by the names of package trust
	Payload  string            // directory with objects/, images/ and boot.efi
}

// CheckMedium believes a medium as Check does a repository: from m.Root, which is
// the root in the image that the medium started, its papers have to lead to the
// release. Their age is not held against it (see [trust.Client.RefreshMedium]). What it
// accepts is remembered in the store of m; without a store it only looks. The
// deployment will look for updates at origin.
func (m *Machine) CheckMedium(ctx context.Context, md Medium, origin store.Origin) (*Finding, error) {
	f, err := m.checkMedium(ctx, md, origin)
	if err != nil {
		return nil, fmt.Errorf("cannot trust this medium: %w", err)
	}
	return f, nil
}

func (m *Machine) checkMedium(ctx context.Context, md Medium, origin store.Origin) (*Finding, error) {
	if len(m.Root) == 0 {
		return nil, fmt.Errorf("the image that it started has no %q, so nobody's signature means anything to it: %w", RootPath, ErrNoRoot)
	}
	decoded, err := release.Decode(md.Document)
	if err != nil {
		return nil, &wrongAnswer{fmt.Errorf("reading its release document: %w", err)}
	}
	sum := sha256.Sum256(md.Document)
	doc := Document{decoded, md.Document, "sha256:" + hex.EncodeToString(sum[:])}
	view, err := m.client(doc.Name, origin, m.Root, nil).RefreshMedium(ctx, trust.Files(md.Trust))
	if err != nil {
		return nil, err
	}
	signed, err := view.Vouches(digest.Digest(doc.Digest))
	if err != nil {
		return nil, &wrongAnswer{err}
	}
	f := &Finding{
		ID: doc.ID, Release: signed, Origin: origin, Verdict: Available,
		image: view.Image(), src: &payload{doc, md.Payload}, why: "installed from a medium",
	}
	if err := f.mustBeSigned(doc); err != nil {
		return nil, &wrongAnswer{err}
	}
	if w := signed.Withdrawn; w != nil {
		f.Verdict, f.Reason = Withdrawn, fmt.Sprintf("%s was withdrawn by its publisher: %s", f.ID, w.Reason)
	}
	return f, nil
}

// Document is the release document of what was found, once it is known: that of a
// medium from the start.
func (f *Finding) Document() (Document, bool) {
	if f.src == nil {
		return Document{}, false
	}
	return f.src.Document(), true
}

// payload is the Source that a medium is.
type payload struct {
	doc Document
	dir string
}

func (s *payload) Document() Document { return s.doc }

func (s *payload) OpenImage(context.Context) (io.ReadCloser, error) {
	root := s.doc.Root()
	h := verity.NewHasher()
	return openChecked(filepath.Join(s.dir, "images", root.Digest.String()), root.Size, h, func() error {
		if got := h.Sum(); got != root.Digest {
			return fmt.Errorf("the medium holds the image %s, and its release is of %s", got.Short(), root.Digest.Short())
		}
		return nil
	})
}

func (s *payload) OpenBootFile(context.Context) (io.ReadCloser, error) {
	want := s.doc.UKI
	h := sha256.New()
	return openChecked(filepath.Join(s.dir, bootFileName), want.Size, h, func() error { return sameSum(h, want) })
}

func sameSum(h hash.Hash, want release.File) error {
	if got := hex.EncodeToString(h.Sum(nil)); got != want.SHA256 {
		return fmt.Errorf("the medium's boot file has the sha256 %s, and its release names %s", got, want.SHA256)
	}
	return nil
}

// Objects come in the order of their names, in which they lie on the medium: a disc
// is read from one end to the other.
func (s *payload) Objects(_ context.Context, all []tree.Object, wanted func(verity.Digest) bool) (Pieces, error) {
	p := &objectFiles{dir: s.dir}
	for _, o := range all {
		if wanted(o.Digest) {
			p.objects = append(p.objects, o)
		}
	}
	slices.SortFunc(p.objects, func(a, b tree.Object) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	return p, nil
}

// objectFiles are objects that lie in files of their own: each is a piece.
type objectFiles struct {
	dir     string
	objects []tree.Object
}

func (p *objectFiles) Len() int           { return len(p.objects) }
func (p *objectFiles) Length(i int) int64 { return int64(p.objects[i].Size) }

// readers is how many objects are read at a time: a stick answers one while the
// kernel unpacks another.
const readers = 4

func (p *objectFiles) Fetch(ctx context.Context, from, to int, report progress.Reporter, put func(tree.Object, io.Reader) error) error {
	group, reading := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for _, o := range p.objects[from:to] {
		if reading.Err() != nil {
			break
		}
		group.Go(func() error {
			f, err := os.Open(filepath.Join(p.dir, "objects", store.ObjectName(o.Digest)))
			if err != nil {
				return fmt.Errorf("reading object %s of the medium: %w", o.Digest.Short(), err)
			}
			defer f.Close()
			return put(o, progress.Reader(f, report))
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// checkedFile is a file that ends with an error where it is not what was said.
type checkedFile struct {
	*os.File
	to         io.Writer // takes what was read
	left, size int64
	same       func() error // nil once it has been asked
}

func openChecked(path string, size int64, to io.Writer, same func() error) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &checkedFile{f, to, size, size, same}, nil
}

func (c *checkedFile) Read(b []byte) (int, error) {
	n, err := c.File.Read(b)
	_, _ = c.to.Write(b[:n]) // a hash, which cannot fail
	c.left -= int64(n)
	switch {
	case c.left < 0:
		return 0, fmt.Errorf("%q is longer than the %d bytes of the release", c.Name(), c.size)
	case errors.Is(err, io.EOF) && c.left > 0:
		return n, fmt.Errorf("%q ends after %d of %d bytes", c.Name(), c.size-c.left, c.size)
	case errors.Is(err, io.EOF) && c.same != nil:
		same := c.same
		c.same = nil
		if wrong := same(); wrong != nil {
			return n, wrong
		}
	}
	return n, err
}

// WriteTo hides the file's own, which would pass the check by.
func (c *checkedFile) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}

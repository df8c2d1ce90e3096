package diskimage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/pack"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/publish/esp"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// WriteRelease makes the disk image of a release in a registry or layout.
// Everything fetched is checked, and kept beside path until it is written. It
// returns where the machine will look for updates: o.Origin or, where that is
// empty, what the image says.
func WriteRelease(ctx context.Context, path string, rel *registry.Release, o Options) (origin Origin, err error) {
	dir := filepath.Dir(path)
	need := rel.Document.UKI.Size
	for _, image := range rel.Document.Images {
		need += image.Size + image.Bytes + int64(image.Objects)*blockSize
	}
	if err := checkSpace(dir, 2*need); err != nil { // once fetched, once written
		return origin, fmt.Errorf("cannot make disk image %q: %w", path, err)
	}
	work, err := os.MkdirTemp(dir, ".ashlar-disk-*")
	if err != nil {
		return origin, fmt.Errorf("cannot make disk image %q: %w", path, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	content, err := fetch(ctx, rel, work, o.Progress)
	if err != nil {
		return origin, fmt.Errorf("fetching release %q: %w", rel.Document.ID, err)
	}
	if o.Origin.Repository == "" {
		o.Origin = content.origin
	}
	return o.Origin, Write(ctx, path, content, o)
}

// fetch brings a whole release into dir. The release's files are checked by
// the registry package against the release document, objects by their digests.
func fetch(ctx context.Context, rel *registry.Release, dir string, report progress.Reporter) (c Content, err error) {
	if report == nil {
		report = progress.None
	}
	c = Content{
		Release: rel.Document, DocumentBytes: rel.DocumentBytes, DocumentDigest: rel.DocumentDigest,
		EROFS: filepath.Join(dir, "image"), UKI: filepath.Join(dir, "uki"), ObjectDir: filepath.Join(dir, "objects"),
	}
	if err := save(ctx, c.EROFS, rel.OpenEROFS); err != nil {
		return c, err
	}
	if err := save(ctx, c.UKI, rel.OpenUKI); err != nil {
		return c, err
	}
	erofs, err := os.Open(c.EROFS)
	if err != nil {
		return c, err
	}
	defer erofs.Close()
	root := rel.Document.Root()
	t, err := composefs.Read(erofs, root.Size)
	if err != nil {
		return c, fmt.Errorf("reading image %s: %w", root.Digest.Short(), err)
	}
	c.Objects = t.Objects()
	if err := fetchObjects(ctx, rel, &c, report); err != nil {
		return c, err
	}
	if c.Loader, err = readLoader(t, c.ObjectDir); err != nil {
		return c, err
	}
	c.origin, err = readOrigin(t, c.ObjectDir)
	return c, err
}

// save writes what open gives to a new file.
func save(ctx context.Context, path string, open func(context.Context) (io.ReadCloser, error)) (err error) {
	r, err := open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, r)
	return err
}

// fetchObjects unpacks all objects from the pack and checks each.
func fetchObjects(ctx context.Context, rel *registry.Release, c *Content, report progress.Reporter) error {
	r, err := rel.OpenPackIndex(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	encoded, err := io.ReadAll(r) // as long as the release document says, or less
	if err != nil {
		return err
	}
	index, err := pack.DecodeIndex(encoded, c.Objects, rel.Document.Pack.Size)
	if err != nil {
		return fmt.Errorf("reading the pack's index: %w", err)
	}
	var total int64
	made := make(map[byte]bool)
	for _, obj := range c.Objects {
		total += int64(obj.Size)
		if first := obj.Digest[0]; !made[first] {
			made[first] = true
			if err := os.MkdirAll(filepath.Join(c.ObjectDir, obj.Digest.String()[:2]), 0o755); err != nil {
				return err
			}
		}
	}
	report.Stage("fetching objects", total, progress.Bytes)
	plan := index.Plan(nil, pack.PlanOptions{})
	ranges := make([]registry.Range, len(plan))
	for i, rg := range plan {
		ranges[i] = registry.Range{Offset: rg.Offset, Length: rg.Length}
	}
	return rel.Repository().FetchRanges(ctx, rel.Pack, ranges, 0, func(i int, r io.Reader) error {
		return pack.Extract(r, plan[i], func(obj tree.Object, r io.Reader) error {
			return putObject(filepath.Join(c.ObjectDir, objectName(obj.Digest)), obj, progress.Reader(r, report))
		})
	})
}

// putObject writes one object and refuses content that its digest does not name.
func putObject(path string, obj tree.Object, r io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	got, _, err := verity.SumReader(io.TeeReader(r, f))
	if err != nil {
		return fmt.Errorf("unpacking object %q: %w", obj.Digest, err)
	}
	if got != obj.Digest {
		return fmt.Errorf("the pack holds other content for object %q: its digest is %q", obj.Digest, got)
	}
	return nil
}

// readLoader returns systemd-boot, which the image brings along.
func readLoader(t *tree.Tree, objects string) ([]byte, error) {
	n, err := esp.FindLoader(t)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(objects, objectName(n.Digest)))
}

// objectName is the name of an object below objects/.
func objectName(d verity.Digest) string {
	hex := d.String()
	return hex[:2] + "/" + hex[2:]
}

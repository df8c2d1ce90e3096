package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// CreateLayout opens the layout in dir, and makes it first where dir is missing or empty.
func CreateLayout(dir string) (*Layout, error) {
	if vacant, err := isVacant(dir); err != nil {
		return nil, fmt.Errorf("creating OCI layout: %w", err)
	} else if !vacant {
		l, err := OpenLayout(dir) // which says so if it is something else
		if err == nil {
			err = l.sweep()
		}
		return l, err
	}
	if err := os.MkdirAll(filepath.Join(dir, blobsDir), 0o755); err != nil {
		return nil, fmt.Errorf("creating OCI layout: %w", err)
	}
	l := &Layout{dir: dir}
	if err := l.writeFile(layoutFile, []byte(layoutText)); err != nil {
		return nil, fmt.Errorf("creating OCI layout: %w", err)
	}
	return l, nil
}

// CheckLayoutDir says whether CreateLayout would refuse dir, and writes nothing.
func CheckLayoutDir(dir string) error {
	vacant, err := isVacant(dir)
	if err != nil {
		return fmt.Errorf("creating OCI layout: %w", err)
	}
	if !vacant {
		_, err = OpenLayout(dir)
	}
	return err
}

// isVacant says whether dir is missing, or holds nothing but what a layout's
// first writer leaves behind when it is killed.
func isVacant(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, e := range entries {
		if e.Name() != ocispec.ImageBlobsDir && !strings.HasPrefix(e.Name(), ".") {
			return false, nil
		}
	}
	return true, nil
}

// PutBlob stores the bytes of r and returns their descriptor.
func (l *Layout) PutBlob(mediaType string, r io.Reader) (ocispec.Descriptor, error) {
	w, err := l.newBlob()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer w.abandon()
	if _, err := io.Copy(w, r); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("writing a blob to %q: %w", l.dir, err)
	}
	return w.commit(mediaType)
}

// PutBlobFile takes the file at path in as the blob d by renaming it, so path
// is gone afterwards; on another file system it is copied, and checked, instead.
// The digest of a renamed file is believed: whoever wrote it has just made it.
func (l *Layout) PutBlobFile(mediaType, path string, d digest.Digest) (ocispec.Descriptor, error) {
	if err := checkDigest(d); err != nil {
		return ocispec.Descriptor{}, err
	}
	f, err := openRegular(path)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("taking blob in: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("taking blob in: %w", err)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: info.Size()}
	if err := errors.Join(f.Chmod(0o644), f.Sync()); err != nil {
		return desc, fmt.Errorf("taking blob in: %w", err)
	}
	err = os.Rename(path, l.BlobPath(d))
	if errors.Is(err, unix.EXDEV) {
		err = l.putBlob(context.Background(), desc, func() (io.ReadCloser, error) {
			return newVerifier(io.NopCloser(f), desc), nil
		})
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		return desc, fmt.Errorf("taking blob in: %w", err)
	}
	return desc, nil
}

func (l *Layout) putBlob(_ context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	w, err := l.newBlob()
	if err != nil {
		return err
	}
	defer w.abandon()
	if _, err := io.Copy(w, rc); err != nil {
		return err
	}
	if got := w.digest(); got != desc.Digest {
		return fmt.Errorf("content of %s is damaged: its digest is %s", desc.Digest, got)
	}
	_, err = w.commit(desc.MediaType)
	return err
}

func (l *Layout) putManifest(_ context.Context, desc ocispec.Descriptor, body []byte, tag string) error {
	if got := digest.FromBytes(body); got != desc.Digest {
		return fmt.Errorf("manifest %s is damaged: its digest is %s", desc.Digest, got)
	}
	if _, err := l.PutBlob(desc.MediaType, bytes.NewReader(body)); err != nil {
		return err
	}
	if tag == "" {
		return nil
	}
	return l.SetTags(desc, tag)
}

// SetTags makes tags name desc, and moves those that named something else. It
// is the last step of writing a release: index.json is replaced in one rename.
func (l *Layout) SetTags(desc ocispec.Descriptor, tags ...string) error {
	unlock, err := l.lock(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	index, err := l.index()
	if err != nil {
		return err
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(d ocispec.Descriptor) bool {
		name := refName(d)
		return slices.Contains(tags, name) || name == "" && d.Digest == desc.Digest
	})
	for _, tag := range tags {
		if !isTag(tag) {
			return fmt.Errorf("%q cannot be a tag", tag)
		}
		named := plainDescriptor(desc)
		named.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
		index.Manifests = append(index.Manifests, named)
	}
	slices.SortFunc(index.Manifests, func(a, b ocispec.Descriptor) int {
		return strings.Compare(refName(a)+" "+a.Digest.String(), refName(b)+" "+b.Digest.String())
	})
	b, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return err
	}
	// The blobs' names reach the disk before the index that mentions them.
	if err := syncDir(filepath.Join(l.dir, blobsDir)); err != nil {
		return err
	}
	if err := l.writeFile(indexFile, append(b, '\n')); err != nil {
		return fmt.Errorf("writing %q: %w", filepath.Join(l.dir, indexFile), err)
	}
	return syncDir(l.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

package compose

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// maxDoc is how large an unpacked page of documentation may be, in bytes.
const maxDoc = 64 << 20

// uncompressDocs unpacks the gzip files below the documentation directories
// and takes the .gz off their names, and off the links that lead to them:
// compressed files inside an image cost four times the update (BASELINE).
func (b *builder) uncompressDocs(t *tree.Tree) error {
	workers := new(errgroup.Group)
	workers.SetLimit(runtime.GOMAXPROCS(0))
	for _, root := range docDirs {
		if dir := t.Lookup(root); dir != nil {
			if err := b.uncompressDir(workers, root, dir); err != nil {
				return err
			}
		}
	}
	// update-alternatives(1) leads to manual pages through links of its own.
	if alternatives := t.Lookup("/etc/alternatives"); alternatives != nil {
		for _, c := range append([]*tree.Node(nil), alternatives.Children...) {
			if c.IsSymlink() && path.Ext(c.Name) == ".gz" && inDocs(c.Target) {
				unpackLink(alternatives, c)
			}
		}
	}
	return workers.Wait()
}

// docDirs are where packages keep compressed documentation.
var docDirs = []string{"/usr/share/man", "/usr/share/doc", "/usr/share/info"}

func inDocs(target string) bool {
	for _, dir := range docDirs {
		if strings.HasPrefix(target, dir+"/") {
			return true
		}
	}
	return false
}

// unpackLink makes a link to a compressed file one to the plain file.
func unpackLink(dir, c *tree.Node) {
	if plain, ok := strings.CutSuffix(c.Target, ".gz"); ok {
		c.Target, c.Size = plain, uint64(len(plain))
	}
	rename(dir, c)
}

func (b *builder) uncompressDir(workers *errgroup.Group, at string, dir *tree.Node) error {
	for _, c := range append([]*tree.Node(nil), dir.Children...) {
		switch {
		case c.IsDir():
			if err := b.uncompressDir(workers, at+"/"+c.Name, c); err != nil {
				return err
			}
		case path.Ext(c.Name) != ".gz":
		case c.IsSymlink():
			unpackLink(dir, c)
		case c.Inode().IsRegular():
			rename(dir, c)
			if c.HardLink == nil { // every inode once
				workers.Go(func() error {
					if err := b.uncompress(c); err != nil {
						return fmt.Errorf("%q: %w", at+"/"+c.Name+".gz", err)
					}
					return nil
				})
			}
		}
	}
	return nil
}

// rename takes the .gz off a name, unless the plain name is there as well.
func rename(dir, c *tree.Node) {
	plain := strings.TrimSuffix(c.Name, ".gz")
	if dir.Child(plain) != nil {
		return
	}
	dir.Remove(c.Name)
	c.Name = plain
	dir.Add(c)
}

func (b *builder) uncompress(n *tree.Node) error {
	packed, err := b.spool.content(n, maxDoc)
	if err != nil {
		return err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxDoc+1))
	if err != nil {
		return err
	}
	if len(plain) > maxDoc {
		return fmt.Errorf("more than %d bytes when unpacked", maxDoc)
	}
	return b.spool.fill(n, plain)
}

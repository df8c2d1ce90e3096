package compose

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/publish/recipe"
)

// aptHelper downloads files the way apt does: through the same proxies, with
// the same credentials, over every scheme that apt knows.
const aptHelper = "/usr/lib/apt/apt-helper"

// fetchBatch is how many files one run of apt-helper downloads.
const fetchBatch = 16

// cache keeps package files by their sha256, with the control file of each
// beside it. Files appear in it by rename only, checked.
type cache struct{ dir string }

func openCache(dir string) (*cache, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c := &cache{dir: filepath.Join(dir, "packages")}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the package cache: %w", err)
	}
	return c, nil
}

func (c *cache) deb(sha256 string) string     { return filepath.Join(c.dir, sha256+".deb") }
func (c *cache) control(sha256 string) string { return filepath.Join(c.dir, sha256+".control") }

func (c *cache) has(p recipe.LockPackage) bool {
	fi, err := os.Stat(c.deb(p.SHA256))
	if err != nil || fi.Size() != p.Size {
		return false
	}
	_, err = os.Stat(c.control(p.SHA256))
	return err == nil
}

// fetch brings every locked package into the cache. uris are where the
// lock's repositories are now, several places for each, tried in order.
func (c *cache) fetch(ctx context.Context, l *recipe.Lock, uris [][]string, report progress.Reporter) error {
	var missing []recipe.LockPackage
	var total int64
	for _, p := range l.Packages {
		if !c.has(p) {
			missing = append(missing, p)
			total += p.Size
		}
	}
	if len(missing) == 0 {
		return nil
	}
	tmp, err := os.MkdirTemp(c.dir, "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	report.Stage("fetching packages", total, progress.Bytes)
	var lost []recipe.LockPackage
	for len(missing) > 0 {
		batch := missing[:min(fetchBatch, len(missing))]
		missing = missing[len(batch):]
		left, err := c.fetchBatch(ctx, batch, uris, tmp)
		if err != nil {
			return err
		}
		lost = append(lost, left...)
		for _, p := range batch {
			report.Add(p.Size)
		}
	}
	if len(lost) > 0 {
		return &MissingError{Packages: lost, URIs: uris, Cache: c.dir}
	}
	return nil
}

// fetchBatch tries every place for the packages of one batch and returns
// those that are nowhere.
func (c *cache) fetchBatch(ctx context.Context, batch []recipe.LockPackage, uris [][]string, tmp string) ([]recipe.LockPackage, error) {
	for try := 0; len(batch) > 0; try++ {
		args := []string{aptHelper, "-qq", "-oAPT::Sandbox::User=root", "download-file"}
		for _, p := range batch {
			if places := uris[p.Repository]; try < len(places) {
				args = append(args, places[try]+p.Filename, filepath.Join(tmp, p.SHA256), "SHA256:"+p.SHA256)
			}
		}
		if args[len(args)-1] == "download-file" {
			return batch, nil
		}
		// It fails when one file of many does; what arrived is looked at below.
		_, runErr := program.Run(ctx, program.Command{Args: args})
		if ctx.Err() != nil {
			return nil, runErr
		}
		var left []recipe.LockPackage
		for _, p := range batch {
			ok, err := c.accept(ctx, filepath.Join(tmp, p.SHA256), p)
			if err != nil {
				return nil, err
			}
			if !ok {
				left = append(left, p)
			}
		}
		batch = left
	}
	return nil, nil
}

// accept moves a downloaded file into the cache if it is what the lock says.
func (c *cache) accept(ctx context.Context, path string, p recipe.LockPackage) (bool, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	h := sha256.New()
	size, err := io.Copy(h, f)
	f.Close()
	if err != nil {
		return false, fmt.Errorf("reading package %s: %w", p.Name, err)
	}
	if size != p.Size || hex.EncodeToString(h.Sum(nil)) != p.SHA256 {
		return false, os.Remove(path)
	}
	control, err := program.Run(ctx, program.Command{Args: []string{"dpkg-deb", "--field", path}})
	if err != nil {
		return false, fmt.Errorf("reading package %s: %w", p.Name, err)
	}
	if err := os.WriteFile(path+".control", control, 0o644); err != nil {
		return false, err
	}
	if err := os.Chmod(path, 0o644); err != nil {
		return false, err
	}
	if err := os.Rename(path+".control", c.control(p.SHA256)); err != nil {
		return false, err
	}
	return true, os.Rename(path, c.deb(p.SHA256))
}

// MissingError names locked packages that can be had nowhere.
type MissingError struct {
	Packages []recipe.LockPackage
	URIs     [][]string
	Cache    string
}

func (e *MissingError) Error() string {
	var b strings.Builder
	for i, p := range e.Packages {
		if i == 5 {
			fmt.Fprintf(&b, " and %d more", len(e.Packages)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s (%s)", p.Name, p.Version, p.Architecture)
	}
	return fmt.Sprintf("locked %s: neither in the cache %q nor at %s",
		b.String(), e.Cache, strings.Join(e.URIs[e.Packages[0].Repository], " or "))
}

// Hint says how to get on.
func (e *MissingError) Hint() string {
	return "make a new lock, or point base.mirror at a place that still has these versions, such as snapshot.debian.org"
}

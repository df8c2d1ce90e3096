package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	format "github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/publish/esp"
	"github.com/ashlar-os/ashlar/internal/publish/medium"
)

// Medium says that a release gets an install medium, and what is on it besides.
type Medium struct {
	Enroll esp.Enroll // Secure Boot keys for the firmware that starts it
}

// tools are what installing runs, by where they are in an image: the live system is
// the release itself, and has what its recipe put into it.
var tools = []struct {
	path, pkg string
	without   string // what goes without it; "": nothing does
}{
	{"/usr/sbin/mkfs.vfat", "dosfstools", ""},
	{"/usr/sbin/mke2fs", "e2fsprogs", ""},
	{"/usr/sbin/cryptsetup", "cryptsetup-bin", "its installer cannot encrypt disks"},
}

// LacksError says why an image cannot install itself.
type LacksError struct {
	err      error
	packages []string
}

func (e *LacksError) Error() string { return e.err.Error() }
func (e *LacksError) Unwrap() error { return e.err }

// Hint is what would help.
func (e *LacksError) Hint() string {
	return "add to the recipe's packages: " + strings.Join(e.packages, ", ")
}

// checkMedium refuses to make a medium of an image that could not install itself,
// before any work is done for it.
func (b *build) checkMedium(context.Context) error {
	if b.Medium == nil {
		return nil
	}
	var missing, packages []string
	for _, tool := range tools {
		switch {
		case b.tree.Tree.Lookup(tool.path) != nil:
		case tool.without != "":
			b.notes = append(b.notes, fmt.Sprintf("the install medium has no %q (package %s): %s", tool.path, tool.pkg, tool.without))
		default:
			missing, packages = append(missing, tool.path), append(packages, tool.pkg)
		}
	}
	if _, err := esp.FindLoader(b.tree.Tree); err != nil {
		missing, packages = append(missing, "systemd-boot"), append(packages, "systemd-boot-efi")
	}
	if len(missing) > 0 {
		return &LacksError{
			err:      fmt.Errorf("the image cannot be its own install medium: it lacks %s", strings.Join(missing, " and ")),
			packages: packages,
		}
	}
	return nil
}

// writeMedium makes the install medium, whose boot file is the release's with
// another command line.
func (b *build) writeMedium(ctx context.Context) error {
	if b.Medium == nil {
		return nil
	}
	loader, err := b.readLoader()
	if err != nil {
		return err
	}
	sources, err := b.sources()
	if err != nil {
		return err
	}
	root := b.doc.Root()
	made, err := medium.Build(ctx, medium.Content{
		Name: b.doc.Name, Version: b.doc.Version, Created: b.created(),
		Image: root.Digest, EROFS: b.erofsPath(), UKI: b.ukiPath(), Loader: loader,
		Objects: b.tree.Tree.Objects(), Object: func(d verity.Digest) string { return sources[d] },
		BootFile: b.writeMediumBootFile, Enroll: b.Medium.Enroll,
	}, medium.Options{Blocks: b.blocksPath(), Work: b.WorkDir, Progress: b.Progress})
	if err != nil {
		return err
	}
	b.mediumMap = made.Encoded
	b.doc.Medium = &release.Medium{
		Size: made.Map.Size, Map: describe(made.Encoded),
		Blocks:   release.File{SHA256: made.Blocks.String(), Size: made.Map.Data()},
		RootHash: made.RootHash.String(),
	}
	return nil
}

func (b *build) writeMediumBootFile(ctx context.Context, path string, root format.Digest) error {
	return b.makeBootFile(ctx, bootFile{
		path:        path,
		commandLine: b.commandLine(format.Argument + "=" + root.String()),
		osRelease:   b.bootOSRelease(" (install medium)"),
	})
}

func (b *build) readLoader() ([]byte, error) {
	n, err := esp.FindLoader(b.tree.Tree)
	if err != nil {
		return nil, err
	}
	r, err := openNode(n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// sources says where the content of each object is.
func (b *build) sources() (map[verity.Digest]string, error) {
	sources := make(map[verity.Digest]string)
	err := b.tree.Tree.WalkInodes(func(path string, n *tree.Node) error {
		if n.IsRegular() && !n.Digest.IsZero() {
			if n.Source == "" {
				return errors.New("the content of " + path + " is nowhere")
			}
			sources[n.Digest] = n.Source
		}
		return nil
	})
	return sources, err
}

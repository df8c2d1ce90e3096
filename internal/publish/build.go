package publish

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/authenticode"
	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/pack"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/publish/compose"
	"github.com/ashlar-os/ashlar/internal/publish/recipe"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// Options says what to build and where to work.
type Options struct {
	Recipe   *recipe.Recipe
	Lock     *recipe.Lock         // nil: resolve now; Report carries the new lock
	Previous *recipe.Lock         // when resolving: the ids to keep; may be nil
	Released *release.Document    // the release before this one, whose ids must stay; may be nil
	Epoch    int64                // when resolving: SOURCE_DATE_EPOCH of the new lock
	Out      string               // OCI layout directory, created if missing
	Channel  string               // tagged beside the version, unless empty
	CacheDir string               // kept between builds
	WorkDir  string               // must exist; the caller removes it
	Ashlar   string               // program that becomes /usr/bin/ashlar
	Init     string               // program that becomes /init
	Signer   *authenticode.Signer // signs the boot file and the loader for Secure Boot; may be nil
	Registry registry.Options     // how the registry of a base image is reached
	Medium   *Medium              // nil: the release gets no install medium
	Progress progress.Reporter
}

// Report is what a build made.
type Report struct {
	Document *release.Document
	Lock     *recipe.Lock
	Packages int
	Layer    int64    // bytes of the object pack
	Notes    []string // what the person who builds may want to know
}

// build is one run: the options, and what the steps have made so far.
type build struct {
	Options
	tree *compose.Result
	doc  *release.Document
	pack pack.Result

	index, sbom, lock []byte
	mediumMap         []byte
	notes             []string
}

// Build makes the release that o.Recipe describes and writes it into o.Out.
// On error nothing is left there that was not there before.
func Build(ctx context.Context, o Options) (*Report, error) {
	if o.Progress == nil {
		o.Progress = progress.None
	}
	b := &build{Options: o}
	for _, step := range []func(context.Context) error{
		b.compose, b.checkMedium, b.writeImage, b.writeBootFile, b.writePack, b.writeMedium, b.writeSBOM, b.writeLayout,
	} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("cannot build %s %s: %w", o.Recipe.Name, o.Recipe.Version, err)
		}
	}
	return &Report{Document: b.doc, Lock: b.tree.Lock, Packages: len(b.tree.Packages), Layer: b.pack.Size, Notes: b.notes}, nil
}

// The files in the work directory, each written by the step of its name.
func (b *build) erofsPath() string  { return filepath.Join(b.WorkDir, "image.erofs") }
func (b *build) initrdPath() string { return filepath.Join(b.WorkDir, "initrd.cpio") }
func (b *build) ukiPath() string    { return filepath.Join(b.WorkDir, "boot.efi") }
func (b *build) blocksPath() string { return filepath.Join(b.WorkDir, "medium.blocks") }
func (b *build) packPath() string   { return filepath.Join(b.WorkDir, "layer.tar.zst") }

func (b *build) compose(ctx context.Context) (err error) {
	var loader func([]byte) ([]byte, error)
	if b.Signer != nil {
		loader = b.Signer.SignFile
	}
	b.tree, err = compose.Compose(ctx, compose.Options{
		Recipe: b.Recipe, Lock: b.Lock, Previous: b.Previous, Epoch: b.Epoch,
		CacheDir: b.CacheDir, WorkDir: b.WorkDir,
		Agent: compose.Agent{Ashlar: b.Ashlar}, Loader: loader, Registry: b.Registry, Progress: b.Progress,
	})
	if err != nil {
		return err
	}
	b.doc = &release.Document{
		Schema:       release.Schema,
		ID:           b.Recipe.Name + "-" + b.Recipe.Version,
		Name:         b.Recipe.Name,
		Version:      b.Recipe.Version,
		Architecture: b.Recipe.Base.Architecture,
		Created:      b.created().Format(time.RFC3339),
		RuleSet:      release.RuleSet,
		Users:        b.tree.Users,
		Groups:       b.tree.Groups,
		Builder:      "ashlar " + release.BuilderVersion,
	}
	if b.Released != nil {
		return compose.CompareIDs(b.Released, b.doc)
	}
	return nil
}

func (b *build) created() time.Time { return time.Unix(b.tree.Lock.Epoch, 0).UTC() }

func (b *build) writeImage(context.Context) error {
	b.Progress.Stage("writing the image", 0, progress.Bytes)
	f, err := os.Create(b.erofsPath())
	if err != nil {
		return err
	}
	defer f.Close()
	if err := composefs.Write(f, b.tree.Tree, composefs.Options{}); err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	digest, size, err := verity.SumReader(f)
	if err != nil {
		return fmt.Errorf("measuring the image: %w", err)
	}
	root := release.Image{Role: release.RoleRoot, Digest: digest, Size: size}
	for _, object := range b.tree.Tree.Objects() {
		root.Objects++
		root.Bytes += int64(object.Size)
	}
	b.doc.Images = []release.Image{root}
	return f.Close()
}

func (b *build) writePack(ctx context.Context) error {
	f, err := os.Create(b.packPath())
	if err != nil {
		return err
	}
	defer f.Close()
	b.pack, err = pack.Write(ctx, f, b.tree.Tree, openNode, pack.Options{Progress: b.Progress})
	if err != nil {
		return fmt.Errorf("packing the objects: %w", err)
	}
	b.doc.Pack = release.File{SHA256: b.pack.SHA256, Size: b.pack.Size}
	b.index = b.pack.Index.Encode()
	b.doc.PackIndex = describe(b.index)
	return f.Close()
}

func (b *build) writeSBOM(context.Context) (err error) {
	if b.lock, err = b.tree.Lock.Encode(); err != nil {
		return err
	}
	if b.sbom, err = compose.SBOM(b.tree, b.doc.Name, b.doc.Version, b.created()); err != nil {
		return fmt.Errorf("listing the software: %w", err)
	}
	b.doc.Lock, b.doc.SBOM = describe(b.lock), describe(b.sbom)
	return nil
}

func (b *build) writeLayout(ctx context.Context) error {
	layout, err := registry.CreateLayout(b.Out)
	if err != nil {
		return err
	}
	in := registry.ReleaseInput{
		Document: b.doc, EROFS: b.erofsPath(), UKI: b.ukiPath(), Pack: b.packPath(), DiffID: b.pack.DiffID,
		PackIndex: b.index, SBOM: b.sbom, Lock: b.lock, MediumMap: b.mediumMap, MediumBlocks: b.blocksPath(), Progress: b.Progress,
	}
	if b.Channel != "" {
		in.Tags = []string{b.Channel}
	}
	_, err = layout.WriteRelease(ctx, in)
	return err
}

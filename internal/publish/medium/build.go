package medium

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/publish/esp"
	"github.com/ashlar-os/ashlar/internal/publish/identity"
)

// Content is what goes on the medium. Everything in it must have been checked.
type Content struct {
	Name, Version string    // of the release
	Created       time.Time // of everything on the medium

	Image   verity.Digest
	EROFS   string                     // path of the image
	UKI     string                     // path of the installed system's boot file
	Loader  []byte                     // systemd-boot
	Objects []tree.Object              // of the image
	Object  func(verity.Digest) string // path of an object; see Options.Work

	// BootFile writes the medium's own boot file to a new file, once the payload's root
	// hash is known: its command line names it.
	BootFile func(ctx context.Context, path string, root medium.Digest) error

	Enroll esp.Enroll // Secure Boot keys for the firmware that starts the medium
}

// Options says where to work.
type Options struct {
	// Blocks is the file that is made: the blob of the blocks in use.
	Blocks string

	// Work is an existing directory. Best it is on the file system of the content,
	// whose files are then linked into it, and made read-only.
	Work string

	Progress progress.Reporter // nil: none
}

// Result is what was made.
type Result struct {
	Map      *medium.Map
	Encoded  []byte        // the map as it is published
	Blocks   medium.Digest // of the blob
	RootHash medium.Digest // of the payload; Build only
}

// job is one run of Build.
type job struct {
	content  Content
	id       identity.Identity
	epoch    time.Time
	work     string
	rootHash medium.Digest
	progress progress.Reporter
}

// The files in the work directory. xorriso is given their names without it.
const (
	espName     = "esp"
	payloadName = "payload"
	isoName     = "iso"
)

func (j *job) esp() string     { return filepath.Join(j.work, espName) }
func (j *job) payload() string { return filepath.Join(j.work, payloadName) }

// Build makes the medium of a release: its map, and the file of its blocks.
func Build(ctx context.Context, c Content, o Options) (*Result, error) {
	result, err := build(ctx, c, o)
	if err != nil {
		return nil, fmt.Errorf("making the install medium: %w", err)
	}
	return result, nil
}

func build(ctx context.Context, c Content, o Options) (result *Result, err error) {
	j, err := newJob(c, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(j.work)) }()
	j.progress.Stage("writing the install medium's payload", 0, 0)
	if err := j.makePayload(ctx); err != nil {
		return nil, err
	}
	if err := j.makeESP(ctx); err != nil {
		return nil, err
	}
	if result, err = j.makeImage(ctx, o.Blocks); err != nil {
		return nil, err
	}
	result.RootHash = j.rootHash
	return result, nil
}

// Parts are the two large partitions of a medium, as files.
type Parts struct {
	ESP, Payload string
}

// Assemble is the last part of Build, from partitions that are there already. Of c it
// takes name, version, time and the image's digest.
func Assemble(ctx context.Context, c Content, p Parts, o Options) (result *Result, err error) {
	j, err := newJob(c, o)
	if err != nil {
		return nil, fmt.Errorf("assembling the install medium: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(j.work)) }()
	for name, target := range map[string]string{j.esp(): p.ESP, j.payload(): p.Payload} {
		if target, err = filepath.Abs(target); err == nil {
			err = os.Symlink(target, name)
		}
		if err != nil {
			return nil, fmt.Errorf("assembling the install medium: %w", err)
		}
	}
	if result, err = j.makeImage(ctx, o.Blocks); err != nil {
		return nil, fmt.Errorf("assembling the install medium: %w", err)
	}
	return result, nil
}

func newJob(c Content, o Options) (j *job, err error) {
	j = &job{
		content: c, epoch: c.Created, progress: o.Progress,
		id: identity.Identity{Format: "ashlar medium 1", Image: c.Image},
	}
	if j.progress == nil {
		j.progress = progress.None
	}
	if j.work, err = os.MkdirTemp(o.Work, "medium-*"); err != nil {
		return nil, err
	}
	j.work, err = filepath.Abs(j.work)
	return j, err
}

// makeESP makes the ESP, just large enough: a CD has no room to waste, and nothing is
// ever added to it.
func (j *job) makeESP(ctx context.Context) error {
	uki := filepath.Join(j.work, "boot.efi")
	if err := j.content.BootFile(ctx, uki, j.rootHash); err != nil {
		return err
	}
	if err := j.content.Enroll.Check(j.content.Loader, uki); err != nil {
		return err
	}
	info, err := os.Stat(uki)
	if err != nil {
		return err
	}
	need := info.Size() + int64(len(j.content.Loader))
	size := max(esp.MinSize, roundUp(need+need/32+4*mib)) // FAT32 with small clusters takes 1 % for its tables
	if err := os.WriteFile(j.esp(), nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(j.esp(), size); err != nil {
		return err
	}
	err = esp.Write(ctx, esp.Options{
		Image: j.esp(), Size: size, Label: "ASHLARMEDIA", VolumeID: j.id.VolumeID("esp"), Time: j.epoch, Work: j.work,
	}, append(j.content.Enroll.Files(),
		esp.File{Path: esp.Fallback, Content: j.content.Loader},
		esp.File{Path: esp.BootDir + medium.BootFile(j.content.Version, j.content.Image.String()), Source: uki}))
	if err != nil {
		return err
	}
	return os.Remove(uki)
}

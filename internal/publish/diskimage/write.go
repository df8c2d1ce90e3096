package diskimage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/progress"
	"github.com/ashlar-os/ashlar/internal/publish/esp"
	"github.com/ashlar-os/ashlar/internal/publish/identity"
)

// Formats of the file that Write makes.
const (
	Raw   = "raw"
	QCOW2 = "qcow2"
)

// Content is what goes on the disk. Everything in it must have been checked:
// only sizes are looked at here, and digests by the machine's first boot.
type Content struct {
	Release        *release.Document
	DocumentBytes  []byte        // the release document as published
	DocumentDigest string        // "sha256:…" of it
	EROFS, UKI     string        // paths
	Loader         []byte        // systemd-boot
	ObjectDir      string        // holds objects as ab/cdef…
	Objects        []tree.Object // those that go on the disk

	origin Origin // what the image says about updates; WriteRelease falls back on it
}

// bootFile is the name of the UKI on the ESP. It has no counter of tries: a
// new disk has nothing to go back to, and a machine that ran out of tries
// would still boot its only entry.
func (c *Content) bootFile() string {
	return fmt.Sprintf("ashlar_%s_%s.efi", c.Release.Version, c.Release.Root().Digest.String()[:12])
}

// Options are the choices of the person who makes the disk.
type Options struct {
	Size     int64      // of the disk, bytes; 0: room for three images and 1 GiB of /var
	ESPSize  int64      // bytes; 0: DefaultESPSize
	Format   string     // Raw or QCOW2; "": Raw
	Seed     string     // changes all ids of the disk
	Origin   Origin     // where the machine looks for updates
	Enroll   esp.Enroll // Secure Boot keys for the machine's firmware
	Progress progress.Reporter
}

// job is one run of Write.
type job struct {
	content  Content
	layout   layout
	id       identity.Identity
	enroll   esp.Enroll
	objects  []string // names below ObjectDir, sorted
	epoch    time.Time
	work     string // holds links to everything that programs are given
	progress progress.Reporter
}

// disk is the path at which programs find the image. It is a link with a
// name of ours: e2fsprogs gives "?" in a path a meaning.
func (j *job) disk() string { return filepath.Join(j.work, "disk") }

// env makes the tools take the release's time for the clock.
func (j *job) env() []string {
	epoch := strconv.FormatInt(j.epoch.Unix(), 10)
	return []string{"TZ=UTC", "SOURCE_DATE_EPOCH=" + epoch, "E2FSPROGS_FAKE_TIME=" + epoch,
		"MKE2FS_CONFIG=/dev/null"}
}

// Write makes the disk image at path, which is replaced when it is whole.
func Write(ctx context.Context, path string, c Content, o Options) (err error) {
	j, err := newJob(c, o)
	if err != nil {
		return fmt.Errorf("cannot make disk image %q: %w", path, err)
	}
	absolute, err := filepath.Abs(path) // programs are run in another directory
	if err != nil {
		return fmt.Errorf("cannot make disk image %q: %w", path, err)
	}
	if err := j.write(ctx, absolute, o); err != nil {
		return fmt.Errorf("cannot make disk image %q: %w", path, err)
	}
	return nil
}

func newJob(c Content, o Options) (*job, error) {
	if c.Release.Root().Digest.IsZero() {
		return nil, fmt.Errorf("the release has no image with role %q", release.RoleRoot)
	}
	if f := o.Format; f != "" && f != Raw && f != QCOW2 {
		return nil, fmt.Errorf("unknown format %q: use %s or %s", f, Raw, QCOW2)
	}
	if err := release.CheckVersion(c.Release.Version); err != nil {
		return nil, err
	}
	for _, path := range []*string{&c.EROFS, &c.UKI, &c.ObjectDir} {
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return nil, err
		}
		*path = absolute
	}
	epoch, err := time.Parse(time.RFC3339, c.Release.Created)
	if err != nil {
		return nil, fmt.Errorf("reading the release's field %q: %w", "created", err)
	}
	uki, err := os.Stat(c.UKI)
	if err != nil {
		return nil, fmt.Errorf("reading the boot file: %w", err)
	}
	erofs, err := os.Stat(c.EROFS)
	if err != nil {
		return nil, fmt.Errorf("reading the image: %w", err)
	}
	if err := o.Enroll.Check(c.Loader, c.UKI); err != nil {
		return nil, err
	}
	l, err := planLayout(c, o, uki.Size(), erofs.Size())
	if err != nil {
		return nil, err
	}
	j := &job{content: c, layout: l, id: identityOf(c, o), epoch: epoch, enroll: o.Enroll, progress: o.Progress}
	if j.progress == nil {
		j.progress = progress.None
	}
	for _, obj := range c.Objects {
		name := objectName(obj.Digest)
		info, err := os.Stat(filepath.Join(c.ObjectDir, name))
		if err != nil {
			return nil, fmt.Errorf("reading object: %w", err)
		}
		if info.Size() != int64(obj.Size) {
			return nil, fmt.Errorf("object %q has %d bytes, not the %d that the image says", name, info.Size(), obj.Size)
		}
		j.objects = append(j.objects, name)
	}
	sort.Strings(j.objects)
	return j, nil
}

func (j *job) write(ctx context.Context, path string, o Options) (err error) {
	dir := filepath.Dir(path)
	need := j.layout.content
	if o.Format == QCOW2 {
		need *= 2 // raw first, then the conversion
	}
	if err := checkSpace(dir, need); err != nil {
		return err
	}
	if j.work, err = os.MkdirTemp(dir, ".ashlar-disk-*"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(j.work)) }()
	raw := filepath.Join(j.work, "raw")
	if err := j.prepare(raw, o); err != nil {
		return err
	}
	if err := j.writeESP(ctx); err != nil {
		return err
	}
	if err := j.writeRoot(ctx); err != nil {
		return err
	}
	done := raw
	if o.Format == QCOW2 {
		done = filepath.Join(j.work, "qcow2")
		if _, err := program.Run(ctx, program.Command{Args: []string{"qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, done}}); err != nil {
			return err
		}
	}
	return publish(done, path)
}

// prepare makes the empty disk with its partition table, and the links and
// small files of the work directory.
func (j *job) prepare(raw string, o Options) (err error) {
	f, err := os.OpenFile(raw, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(j.layout.size); err != nil {
		return err
	}
	table := gpt.Table{
		Disk: j.id.UUID("disk"), Sector: sectorSize, Size: j.layout.size,
		Partitions: []gpt.Partition{j.layout.esp, j.layout.root},
	}
	if err := table.Write(f); err != nil {
		return err
	}
	document, err := encodeDeployment(j.content.Release, j.content.DocumentDigest, o.Origin)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"deployment.json": document, "release.json": j.content.DocumentBytes, "empty": nil} {
		if err := os.WriteFile(filepath.Join(j.work, name), data, 0o644); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{"disk": raw, "uki": j.content.UKI, "erofs": j.content.EROFS, "objects": j.content.ObjectDir} {
		target, err := filepath.Abs(target)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, filepath.Join(j.work, name)); err != nil {
			return err
		}
	}
	return nil
}

// publish makes a finished file appear at path, whole or not at all.
func publish(done, path string) error {
	f, err := os.Open(done)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("writing to disk: %w", err)
	}
	return os.Rename(done, path)
}

// checkSpace refuses work for which dir's file system has no room.
func checkSpace(dir string, need int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("asking for the free space of %q: %w", dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("%q has %d MB free, the disk image needs %d MB", dir, free/1e6, need/1e6)
	}
	return nil
}

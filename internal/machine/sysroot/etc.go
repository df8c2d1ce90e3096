package sysroot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/etc"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// imageEtc is where an image keeps its own /etc.
const imageEtc = "usr/etc"

// mountEtc completes the root: /etc, /var and the root partition.
func (b *boot) mountEtc() error {
	if err := b.mountVar(); err != nil {
		return &varError{err}
	}
	if err := b.reset(); err != nil {
		return err
	}
	if err := b.mergeEtc(); err != nil {
		return err
	}
	d := b.params.image
	if err := mountEtc(filepath.Join(newRoot, imageEtc), b.store.EtcUpper(d), b.store.EtcWork(d), filepath.Join(newRoot, "etc")); err != nil {
		return err
	}
	if err := b.showVar(filepath.Join(newRoot, "var")); err != nil {
		return err
	}
	// From here on a failure could not be noted in the deployment any more.
	if err := b.intact(); err != nil {
		return err
	}
	b.begin()
	// /sysroot is the one view of the partition that stays, and read-only; the
	// file system under it is writable, as /var and /etc need.
	target := filepath.Join(newRoot, "sysroot")
	if err := move(sysrootDir, target); err != nil {
		return err
	}
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("making %q read-only: %w", target, err)
	}
	return nil
}

// reset takes away what this machine has of its own, when somebody asked for that
// (ashlar reset). It may take a while: /var is removed.
func (b *boot) reset() error {
	did, err := b.store.Reset()
	if did && err == nil {
		say(levelInfo, "/etc and /var are as the image has them: the machine was reset")
		b.tell(history.Reset, "/etc and /var are as the image has them")
	}
	return err
}

// mergeEtc carries the changes of /etc over from the deployment that this one
// was staged from, if it never ran.
//
// A merge that fails fails the boot. Starting with half of the machine's
// configuration, or none of it, would be neither of the deployments that a
// boot may end in; the one before is whole, its /etc was not touched, and the
// loader goes back to it when the tries are used up.
func (b *boot) mergeEtc() error {
	d := b.params.image
	deployment, err := b.store.Deployment(d)
	if err != nil {
		return err
	}
	base, ok := deployment.EtcBase()
	b.record.Etc = "kept"
	if !ok || base == d {
		return nil
	}
	// The report is written last: while it is missing, no system has run on
	// whatever is in this deployment's upper directory.
	if _, err := os.Lstat(b.store.EtcReport(d)); err == nil {
		return nil
	}
	report, err := b.mergeFrom(base, func(o etc.MergeOptions) (*etc.Report, error) { return b.mergeOver(base, o) })
	if err != nil {
		return fmt.Errorf("cannot carry /etc over from deployment %s: %w", base.Short(), err)
	}
	b.record.Etc = "merged"
	if n := len(report.Conflicts()); n > 0 {
		say(levelInfo, fmt.Sprintf("/etc was merged, with %d conflicts; see ashlar status", n))
	}
	return nil
}

// mergeFrom merges into etc.new, renames that to etc and writes the report: cut
// before the report is there, it is all done again. merge brings its result to the
// disk.
func (b *boot) mergeFrom(base verity.Digest, merge func(etc.MergeOptions) (*etc.Report, error)) (*etc.Report, error) {
	d := b.params.image
	upper := b.store.EtcUpper(d)
	merged := b.store.EtcNew(d)
	for _, dir := range []string{merged, upper, b.store.EtcWork(d)} {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	report := &etc.Report{Schema: etc.Schema, Items: []etc.Item{}}
	mine := b.store.EtcUpper(base)
	if _, err := os.Lstat(mine); errors.Is(err, fs.ErrNotExist) {
		// That deployment never ran, so nothing was changed in it.
		err = os.Mkdir(merged, 0o755)
		if err != nil {
			return nil, err
		}
	} else {
		report, err = merge(etc.MergeOptions{
			BaseDir:   filepath.Join(oldRoot, imageEtc),
			MineUpper: mine,
			TheirsDir: filepath.Join(newRoot, imageEtc),
			OutUpper:  merged,
		})
		if err != nil {
			return nil, err
		}
	}
	if err := syncDir(merged); err != nil {
		return nil, err
	}
	if err := os.Rename(merged, upper); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(upper)); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return nil, err
	}
	return report, store.WriteFileAtomic(b.store.EtcReport(d), append(text, '\n'), 0o644)
}

// mergeOver merges while the image that the changes were made on is mounted.
func (b *boot) mergeOver(base verity.Digest, o etc.MergeOptions) (*etc.Report, error) {
	image, err := b.store.OpenImage(base)
	if err != nil {
		return nil, err
	}
	defer image.Close()
	if err := mountImage(image, b.store.ObjectsPath(), oldRoot, requireSeals); err != nil {
		return nil, err
	}
	report, err := etc.Merge(o)
	return report, errors.Join(err, unmount(oldRoot))
}

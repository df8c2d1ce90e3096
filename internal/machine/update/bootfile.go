package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// putBootFile makes sure that the ESP holds the release's boot file, byte for
// byte. It comes into the store first, so that nothing that
// is cut, damaged or of another image ever gets near the loader. What it has to
// be stays here with the release document, see CheckBootFile.
func (m *Machine) putBootFile(ctx context.Context, plan *StagePlan, p progress.Reporter) error {
	if err := m.Store.WriteDocument(plan.Image, plan.doc().Bytes); err != nil {
		return err
	}
	want := plan.doc().UKI
	if plan.here != nil {
		if sum, err := sumFile(m.ESP.Path(*plan.here)); err == nil && sum == want.SHA256 {
			return nil
		}
	}
	p.Stage("fetching the boot file", want.Size, progress.Bytes)
	f, err := m.fetchBootFile(ctx, plan, p)
	if err != nil {
		return err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if plan.here != nil {
		// Damaged, or of another build of this image, and not what runs.
		if err := m.ESP.Remove(*plan.here); err != nil {
			return err
		}
	}
	p.Stage("writing the boot file", want.Size, progress.Bytes)
	e, err := m.ESP.Commit(plan.Version, plan.Image, progress.Reader(f, p), want.Size)
	if err == nil && (e.Foreign || e.Ignored != "") {
		return fmt.Errorf("the boot file %q is not what was written: %s", e.File, e.Ignored)
	}
	return err
}

// admit refuses a release that this machine's firmware would not start, before
// anything is stored for it. That takes the boot file, which is fetched now and
// kept for putBootFile; firmware that starts everything need not be asked.
func (m *Machine) admit(ctx context.Context, plan *StagePlan, p progress.Reporter) error {
	if !m.Firmware.Enforces() {
		return nil
	}
	p.Stage("fetching the boot file", plan.doc().UKI.Size, progress.Bytes)
	f, err := m.fetchBootFile(ctx, plan, p)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil {
		err = m.Firmware.Check(f, info.Size())
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func sumFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// fetchBootFile fetches the boot file into the store's tmp/, unless it is there
// already, and checks what it boots. The caller removes it.
func (m *Machine) fetchBootFile(ctx context.Context, plan *StagePlan, p progress.Reporter) (_ *os.File, err error) {
	path := filepath.Join(m.Store.Dir, "tmp", "boot-"+plan.Image.Short())
	if sum, err := sumFile(path); err == nil && sum == plan.doc().UKI.SHA256 {
		return os.Open(path) // admit checked it
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	r, err := plan.src.OpenBootFile(ctx)
	if err != nil {
		return nil, fmt.Errorf("fetching the boot file: %w", err)
	}
	defer r.Close()
	if _, err := io.Copy(f, progress.Reader(r, p)); err != nil {
		return nil, fmt.Errorf("fetching the boot file: %w", err)
	}
	uki, err := esp.ReadUKI(f.Name())
	if err != nil {
		return nil, err
	}
	if uki.Image != plan.Image {
		return nil, fmt.Errorf("its boot file boots image %s, and not its own, %s", uki.Image, plan.Image)
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

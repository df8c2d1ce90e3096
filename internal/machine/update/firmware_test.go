package update

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/authenticode/authenticodetest"
	"github.com/ashlar-os/ashlar/internal/image/efivar"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/secureboot"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// publishSigned publishes a release whose boot file is signed by id.
func (w *world) publishSigned(version string, id *authenticodetest.Identity) *updatetest.Release {
	w.t.Helper()
	// A site of its own says what the boot file will be.
	draft := updatetest.NewSite(w.t).Publish(updatetest.Spec{Name: "server", Version: version})
	signed, err := id.SignFile(draft.UKI)
	w.must(err)
	return w.site.Publish(updatetest.Spec{Name: "server", Version: version, UKI: signed})
}

// firmware gives the machine EFI variables: db with the certificate of id.
func (w *world) firmware(on byte, id *authenticodetest.Identity) *secureboot.State {
	w.t.Helper()
	for v, content := range map[efivar.Variable][]byte{
		{Name: "SecureBoot", Vendor: efivar.VendorGlobal}: {on},
		efivar.DB: efivar.Encode([]efivar.Entry{{Type: efivar.TypeX509, Data: id.Certificate().Raw}}),
	} {
		path := boot.VariablePath(w.c.Root, v.File())
		w.must(os.MkdirAll(filepath.Dir(path), 0o755))
		w.must(os.WriteFile(path, append([]byte{7, 0, 0, 0}, content...), 0o644))
	}
	return secureboot.Read(w.c.Root)
}

// TestFirmwareRefuses: with Secure Boot on, a release that would not start is
// refused before anything is fetched for it but its boot file; one that starts
// is staged, with its boot file fetched once; with Secure Boot off, all are.
func TestFirmwareRefuses(t *testing.T) {
	w, v1 := newWorld(t)
	ours, foreign := authenticodetest.New(t, "ours"), authenticodetest.New(t, "foreign")
	for _, c := range []struct {
		version, want string
		publish       func(version string) *updatetest.Release
	}{
		{"2.0.0", `it is signed by "CN=foreign", which db does not hold`, func(v string) *updatetest.Release { return w.publishSigned(v, foreign) }},
		{"2.0.1", "it is not signed", w.publish},
	} {
		rel := c.publish(c.version)
		m := w.machine()
		m.Firmware = w.firmware(1, ours)
		want := "cannot stage server-" + c.version + ": this machine's firmware enforces Secure Boot, and would not start the boot file: " + c.want
		if err := w.tryStage(m); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		missing := 0
		for d := range rel.Objects {
			if !m.Store.HasObject(d) {
				missing++
			}
		}
		if missing == 0 {
			t.Errorf("%s: its objects were fetched", c.version)
		}
		w.boots(v1)
		if left := w.c.Leftovers(); len(left) > 0 {
			t.Errorf("%s: left %q", c.version, left)
		}
	}

	good := w.publishSigned("3.0.0", ours)
	m := w.machine()
	m.Firmware = w.firmware(1, ours)
	w.site.Server.ResetStats()
	w.must(w.tryStage(m))
	with := w.site.Server.Stats().Bytes
	w.boots(good)
	if with > int64(2*len(good.UKI)+len(good.EROFS)+40_000) {
		t.Errorf("%d bytes were fetched; the boot file has %d", with, len(good.UKI))
	}

	m = w.machine()
	m.Firmware = w.firmware(0, ours)
	off := w.publishSigned("4.0.0", foreign)
	w.must(w.tryStage(m))
	w.boots(off)
	entry, err := os.ReadFile(m.ESP.Path(*w.look().With(Next).Entry))
	if err != nil || !bytes.Equal(entry, off.UKI) || !strings.Contains(string(entry), "foreign") {
		t.Errorf("the boot file is not the release's: %v", err)
	}
}

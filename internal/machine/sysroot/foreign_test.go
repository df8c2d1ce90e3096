package sysroot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the boot file says is what counts: a boot with one word more or less is
// refused, and the sentence names the word.
func TestForeignParameters(t *testing.T) {
	own := "ashlar.image=" + digest + " console=ttyS0 quiet systemd.import_credentials=no --"
	other := strings.Replace(own, digest, strings.Repeat("0", 64), 1)
	const start, end = "the kernel was not started with the boot file's parameters: ", "; this image takes them from nobody else"
	for given, want := range map[string]string{
		own:                                        "",
		own + "\n":                                 "",
		own + " rdinit=/none init=/bin/sh":         `"rdinit=/none" "init=/bin/sh" added`,
		own + " quiet":                             `"quiet" added`,
		own + ` systemd.run="rm -rf /"`:            `"systemd.run=\"rm -rf /\"" added`,
		strings.Replace(own, " quiet", "", 1):      `"quiet" missing`,
		strings.TrimSuffix(own, " --"):             `"--" missing`,
		"init=/bin/sh":                             `"init=/bin/sh" added, "ashlar.image=` + digest + `" "console=ttyS0" "quiet" "systemd.import_credentials=no" "--" missing`,
		other:                                      `"ashlar.image=` + strings.Repeat("0", 64) + `" added, "ashlar.image=` + digest + `" missing`,
		"-- " + strings.TrimSuffix(own, " --"):     "their order was changed",
		own + strings.Repeat(" a", maxNamed+2):     strings.Repeat(`"a" `, maxNamed) + "and 2 more added",
		own + " " + strings.Repeat("a", 2*maxWord): `"` + strings.Repeat("a", maxWord) + `…" added`,
	} {
		err := refuseCmdline(own+"\n", given)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", given, err)
		case want != "" && (err == nil || err.Error() != start+want+end):
			t.Errorf("%q: %v, want %q", given, err, want)
		}
	}
}

// An initramfs without a command line of its own takes any; one with takes the
// image from there.
func TestReadCmdline(t *testing.T) {
	dir := t.TempDir()
	given, own := filepath.Join(dir, "given"), filepath.Join(dir, "own")
	write(t, given, "ashlar.image="+digest+" extra\n")
	var open boot
	if err := open.readCmdline(given, own); err != nil || open.record.Foreign != ForeignAccept || open.params.image.String() != digest {
		t.Errorf("without an own one: %+v, %v", open.record, err)
	}
	if err := open.refuseForeign(); err != nil {
		t.Errorf("an image for tests refuses: %v", err)
	}
	signed := strings.Repeat("0", 63) + "1"
	write(t, own, "ashlar.image="+signed+" --\n")
	var closed boot
	if err := closed.readCmdline(given, own); err != nil || closed.record.Foreign != ForeignRefuse || closed.params.image.String() != signed {
		t.Errorf("with an own one: %+v, %v", closed.record, err)
	}
	if err := closed.refuseForeign(); err == nil || !strings.Contains(err.Error(), `"extra" added`) {
		t.Errorf("another command line: %v", err)
	}
	write(t, own, "")
	if err := new(boot).readCmdline(given, own); err == nil {
		t.Error("an empty own command line is taken as none")
	}
}

func TestSidecars(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "os-release"), "") // the stub's own
	if got := sidecars(dir); len(got) != 0 {
		t.Errorf("of nothing: %q", got)
	}
	write(t, filepath.Join(dir, "credentials", "evil.cred"), "")
	write(t, filepath.Join(dir, "sysext", "evil.raw"), "")
	want := `"credentials/evil.cred" from the ESP, "sysext/evil.raw" from the ESP`
	if got := strings.Join(sidecars(dir), ", "); got != want {
		t.Errorf("found %s, want %s", got, want)
	}
}

func TestSystemdOptions(t *testing.T) {
	dir := t.TempDir()
	if said, err := removeSystemdOptions(dir); said != "" || err != nil {
		t.Errorf("without the variable: %q, %v", said, err)
	}
	path := filepath.Join(dir, systemdOptions)
	for _, c := range []struct{ content, want string }{
		{efiString("systemd.debug_shell"), `EFI variable SystemdOptions, "systemd.debug_shell", now removed`},
		{"x", `EFI variable SystemdOptions, "?", now removed`},
	} {
		write(t, path, c.content)
		said, err := removeSystemdOptions(dir)
		if said != c.want || err != nil {
			t.Errorf("%q: %q, %v", c.content, said, err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("the variable is still there")
		}
	}
}

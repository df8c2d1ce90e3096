package cli

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const composefsDump = `/ 0 40755 2 0 0 0 0.0 - - -
/etc 0 40755 2 0 0 0 0.0 - - -
/etc/motd 6 100644 2 0 0 0 0.0 - hello\n -
/etc/motd.link 6 @100644 2 0 0 0 0.0 /etc/motd - -
`

func composefsRun(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(context.Background(), append([]string{"composefs"}, args...), &globals{stdout: &out, stderr: &errs})
	return code, out.String(), errs.String()
}

// TestComposefs goes from a dump to an image, and back.
func TestComposefs(t *testing.T) {
	dir := t.TempDir()
	dump, image := filepath.Join(dir, "tree.dump"), filepath.Join(dir, "tree.erofs")
	if err := os.WriteFile(dump, []byte(composefsDump), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := composefsRun("write", "--dump", dump, "-o", image); code != exitOK {
		t.Fatalf("write: exit code %d: %s", code, stderr)
	}
	measured, err := exec.Command("fsverity", "digest", "--compact", image).Output()
	if err != nil {
		t.Fatal(err)
	}
	code, digest, stderr := composefsRun("digest", "--dump", dump)
	if code != exitOK || digest != string(measured) || stderr != "" {
		t.Errorf("digest: exit code %d, %q, %q; fsverity measures the image as %q", code, digest, stderr, measured)
	}
	// The printed dump counts the links of directories.
	want := strings.Replace(composefsDump, "40755 2", "40755 3", 1)
	if code, text, stderr := composefsRun("dump", image); code != exitOK || text != want {
		t.Errorf("dump: exit code %d: %s\n%s\nwant\n%s", code, stderr, text, want)
	}
}

func TestComposefsRefuses(t *testing.T) {
	dir := t.TempDir()
	bad, image := filepath.Join(dir, "bad.dump"), filepath.Join(dir, "image")
	if err := os.WriteFile(bad, []byte("/ 0 40755 2 0 0 zero 0.0 - - -\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{exitUsage, "give either --dump or --dir", []string{"digest"}},
		{exitUsage, "--flatten-hardlinks goes with --dir only", []string{"digest", "--dump", bad, "--flatten-hardlinks"}},
		{exitUsage, "--output", []string{"write", "--dump", bad}},
		{exitError, `bad.dump": line 1 of the dump, field RDEV: "zero" is not a number in base 10`, []string{"write", "--dump", bad, "-o", image}},
		{exitError, "not a composefs image", []string{"dump", bad}},
	} {
		if code, _, stderr := composefsRun(c.args...); code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("ashlar composefs %q: exit code %d: %s", c.args, code, stderr)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*image*")); err != nil || len(left) > 0 {
		t.Errorf("a refused dump leaves %q behind", left)
	}
}

func TestComposefsDir(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte("x"), 100), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, two, _ := composefsRun("digest", "--dir", dir)
	if err := os.Remove(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	_, linked, _ := composefsRun("digest", "--dir", dir)
	_, flat, stderr := composefsRun("digest", "--dir", dir, "--flatten-hardlinks")
	if len(two) != 65 || len(linked) != 65 || len(flat) != 65 {
		t.Fatalf("digests are %q, %q, %q: %s", two, linked, flat, stderr)
	}
	if linked == flat {
		t.Error("a hard link makes no difference to the digest")
	}
}

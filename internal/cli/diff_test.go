package cli

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	parent := t.TempDir()
	one, two, three := filepath.Join(parent, "one"), filepath.Join(parent, "two"), filepath.Join(parent, "three")
	testRelease(t, one, "1.0.0", "boot", inspectTree(t))
	testRelease(t, two, "1.1.0", "other boot", testTree(t, 6,
		[2]string{"bin", "-> usr/bin"},
		[2]string{"usr/bin/dash", longContent + "changed"},
		[2]string{"usr/bin/vim", longContent},
		[2]string{"usr/etc/e\x1b[31mvil", "short"},
		[2]string{"usr/lib/modules/6.12.1-amd64/vmlinuz", longContent + "kernel"},
		[2]string{"usr/lib/sysimage/dpkg/status", strings.Replace(testStatus, "podman\nVersion: 5.4.2", "vim\nVersion: 2:9.1", 1) +
			"\nPackage: dash\nVersion: 1\nArchitecture: i386\n"},
	))
	testRelease(t, three, "1.0.1", "boot", inspectTree(t))

	out, stderr, code := ashlar(t, "diff", one, two)
	want := `+ dash:i386 1
- podman:amd64 5.4.2
+ vim:amd64 2:9.1
~ /usr/bin/dash  (content, links)
- /usr/bin/sh
+ /usr/bin/vim
~ /usr/lib/sysimage/dpkg/status  (content)
server-1.0.0 → server-1.1.0: 2 packages added, 1 packages removed, 1 files added, 1 files removed, 2 files changed, ` +
		"12 more files differ in their time only, the boot file differs\n"
	if out != want || stderr != "" || code != exitDiffers {
		t.Errorf("exit code %d, stderr %q, got:\n%s\nwant:\n%s", code, stderr, out, want)
	}

	out, _, code = ashlar(t, "diff", "--json", two, one)
	var a diffAnswer
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatal(err)
	}
	if code != exitDiffers || !a.Differ || !a.BootFile || a.TimesOnly != 12 || a.From.ID != "server-1.1.0" ||
		!reflect.DeepEqual(a.Packages[1], packageChange{"podman", "amd64", "", "5.4.2"}) ||
		!reflect.DeepEqual(a.Files[0], fileChange{"/usr/bin/dash", "changed", []string{"content", "links"}}) {
		t.Errorf("exit code %d, %+v", code, a)
	}

	// Another version of the same image is no difference.
	if out, stderr, code = ashlar(t, "diff", one, three); out != "server-1.0.0 and server-1.0.1 do not differ\n" || code != exitOK {
		t.Errorf("exit code %d, %s%s", code, out, stderr)
	}
	if out, _, code = ashlar(t, "diff", "--packages", one, two); strings.Contains(out, "/usr") || code != exitDiffers {
		t.Errorf("exit code %d, %s", code, out)
	}
	if _, stderr, code = ashlar(t, "diff", one, filepath.Join(parent, "none")); code != exitError || stderr == "" {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

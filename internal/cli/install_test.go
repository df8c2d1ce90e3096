package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
	"github.com/ashlar-os/ashlar/internal/media/drive/drivetest"
)

// live is a computer that was started from a medium in /dev/sr0. It has two disks.
type live struct {
	*drivetest.Computer
	t   *testing.T
	rel *updatetest.Release
}

func newLive(t *testing.T) *live {
	t.Helper()
	l := &live{drivetest.NewComputer(t), t, nil}
	site := updatetest.NewSite(t)
	l.rel = site.Publish(updatetest.Spec{Name: "server", Version: "1.0.0", Tree: func(t *tree.Tree) {
		at := t.Root
		for _, name := range []string{"usr", "lib", "systemd", "boot", "efi"} {
			if at.Child(name) == nil {
				at.Add(&tree.Node{Name: name, Mode: tree.TypeDir | 0o755, Nlink: 1})
			}
			at = at.Child(name)
		}
		at.Add(&tree.Node{Name: "systemd-bootx64.efi", Mode: tree.TypeRegular | 0o644, Nlink: 1, Size: 6, Inline: []byte("loader")})
	}})
	m := site.WriteMedium(l.rel)
	papers, err := (&medium.Papers{Document: m.Document, Trust: m.Trust}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	l.Drive("vda", "pci0000:00/0000:00:04.0/virtio1", "254:0", "41943040", map[string]string{"serial": "one"})
	l.Drive("vdb", "pci0000:00/0000:00:05.0/virtio2", "254:16", "41943040", map[string]string{"serial": "two"})
	l.Drive("vdc", "pci0000:00/0000:00:06.0/virtio3", "254:32", "41943040", map[string]string{"serial": "three"})
	l.File("dev/vdb", strings.Repeat("somebody's data ", 10000))
	for _, d := range []string{"a one", "b two", "c three"} {
		letter, serial, _ := strings.Cut(d, " ")
		l.link("../../vd"+letter, "dev/disk/by-id/virtio-"+serial)
	}
	l.File("dev/vdc", string(papers)+strings.Repeat("\x00", medium.AnswersSize)) // a stick, as the virtual machine has it
	l.File("proc/cmdline", "ashlar.image="+l.rel.Image().String()+"\n")
	l.File("usr/lib/ashlar/trust/root.json", string(updatetest.Acme().Root()))
	l.link(m.Payload, "sysroot/ashlar")
	record, err := json.Marshal(sysroot.Record{Schema: 1, Image: l.rel.Image(), Medium: &sysroot.Medium{
		Device: "/dev/vdc", Papers: sysroot.Region{Length: medium.PapersSize}, Answers: sysroot.Region{Offset: medium.PapersSize, Length: medium.AnswersSize},
	}})
	if err != nil {
		t.Fatal(err)
	}
	l.File("run/ashlar/boot.json", string(record))
	t.Setenv("ASHLAR_ROOT", l.Root)
	return l
}

func (l *live) link(target, name string) {
	l.t.Helper()
	path := filepath.Join(l.Root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		l.t.Fatal(err)
	}
}

func (l *live) run(args ...string) (stdout, stderr string, code int) {
	var out, problems bytes.Buffer
	code = run(context.Background(), args, &globals{stdout: &out, stderr: &problems})
	return out.String(), problems.String(), code
}

// The plan names the disks as they are called for good, and why some are not taken.
func TestInstallPlan(t *testing.T) {
	l := newLive(t)
	out, problems, code := l.run("install", "--plan", "--disk", "virtio-one", "--json")
	var answer installAnswer
	if err := json.Unmarshal([]byte(out), &answer); err != nil || code != 0 {
		t.Fatalf("%d, %v: %s%s", code, err, out, problems)
	}
	if p := answer.Plan; p.Release.Image != l.rel.Image() || p.Disk.ID != "virtio-one" || p.Mode != "blank" || len(p.Partitions) != 2 {
		t.Errorf("the plan is %+v", p)
	}
	for i, want := range []struct{ id, content, refused string }{
		{"virtio-one", "", ""}, {"virtio-two", "data of an unknown kind", ""}, {"virtio-three", "data of an unknown kind", "it is the medium that this computer was started from"},
	} {
		if d := answer.Disks[i]; d.ID != want.id || d.Content != want.content || d.Refused != want.refused {
			t.Errorf("disk %d is %+v, want %+v", i, d, want)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "there are 2 disks, and none is named"},
		{[]string{"--disk", "virtio-two"}, "is not empty"},
		{[]string{"--disk", "virtio-two", "--erase", "virtio-one"}, "what may be erased"},
		{[]string{"--disk", "virtio-three", "--erase", "virtio-three"}, "it is the medium"},
		{[]string{"--disk", "virtio-one", "--answers", "/does/not/exist"}, "no such file"},
		{[]string{"--disk", "virtio-one", "--var-disk", "virtio-two"}, "say erase = \"virtio-two\" below [var]"},
		{[]string{"--disk", "virtio-one", "--var-disk", "virtio-one"}, "gets the system"},
		{[]string{"--disk", "virtio-one", "--var-disk", "virtio-three", "--erase-var", "virtio-three"}, "it is the medium"},
		{[]string{"--disk", "virtio-one", "--erase-var", "virtio-two"}, "is never chosen by itself"},
	} {
		if _, problems, code := l.run(append([]string{"install", "--plan"}, c.args...)...); code == 0 || !strings.Contains(problems, c.want) {
			t.Errorf("%q: %d, %q, want %q", c.args, code, problems, c.want)
		}
	}
	if out, _, code := l.run("install", "--plan", "--disk", "virtio-two", "--erase", "virtio-two"); code != 0 || !strings.Contains(out, "EVERYTHING ON IT IS LOST") || !strings.Contains(out, "nothing was changed") {
		t.Errorf("%d: %s", code, out)
	}
}

// A disk for /var is in the plan, in words and in JSON; without one there is none.
func TestInstallPlanVar(t *testing.T) {
	l := newLive(t)
	args := []string{"install", "--plan", "--disk", "virtio-one", "--var-disk", "virtio-two", "--erase-var", "two"}
	out, problems, code := l.run(args...)
	for _, want := range []string{"/var on     /dev/vdb: ", "            virtio-two\n            EVERYTHING ON IT IS LOST\n", "Partition 1 ashlar-var, ", "nothing was changed"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%d, without %q: %s%s", code, want, out, problems)
		}
	}
	var answer installAnswer
	out, _, _ = l.run(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatal(err)
	}
	if v := answer.Plan.Var; v == nil || v.Disk.ID != "virtio-two" || v.Mode != "erase" || v.Partition.Name != "ashlar-var" || v.Partition.Encrypted {
		t.Errorf("the plan has %+v", v)
	}
	if out, _, _ := l.run("install", "--plan", "--disk", "virtio-one", "--json"); !strings.Contains(out, `"var": null`) {
		t.Errorf("the plan is %s", out)
	}
}

// A medium whose papers are not of what it started, or nobody's, installs nothing.
func TestInstallFromNothing(t *testing.T) {
	l := newLive(t)
	l.File("dev/vdc", strings.Repeat("\x00", medium.PapersSize+medium.AnswersSize))
	if _, problems, code := l.run("install", "--plan"); code == 0 || !strings.Contains(problems, "cannot trust this medium: the medium's papers: nothing was written there") {
		t.Errorf("%d: %s", code, problems)
	}
	if err := os.Remove(filepath.Join(l.Root, "run/ashlar/boot.json")); err != nil {
		t.Fatal(err)
	}
	if _, problems, code := l.run("install", "--plan"); code == 0 || !strings.Contains(problems, "was not started from an install medium") {
		t.Errorf("%d: %s", code, problems)
	}
}

// Answers are looked for on the medium and in the kernel's parameters.
func TestFindAnswers(t *testing.T) {
	l := newLive(t)
	record := runsFromMedium()
	in, err := newInstaller(record)
	if err != nil {
		t.Fatal(err)
	}
	if a, _, err := findAnswers(context.Background(), in, record); a != nil || err != nil {
		t.Errorf("none: %v, %v", a, err)
	}
	region, err := medium.EncodeAnswers([]byte("schema = 1\n[system]\nhostname = \"from-medium\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	device, err := os.OpenFile(filepath.Join(l.Root, "dev/vdc"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if _, err := device.WriteAt(region, medium.PapersSize); err != nil {
		t.Fatal(err)
	}
	if a, from, err := findAnswers(context.Background(), in, record); err != nil || a.System.Hostname != "from-medium" || from != "the medium" {
		t.Errorf("on the medium: %+v, %q, %v", a, from, err)
	}
	text := "schema = 1\n[system]\nhostname = \"from-server\"\n"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }))
	defer server.Close()
	l.File("proc/cmdline", fmt.Sprintf("quiet ashlar.answers=%s/a.toml ashlar.answers-sha256=%x\n", server.URL, sha256.Sum256([]byte(text))))
	if a, _, err := findAnswers(context.Background(), in, record); err != nil || a.System.Hostname != "from-server" {
		t.Errorf("on a server: %+v, %v", a, err)
	}
	text += "# changed on the way\n"
	if _, _, err := findAnswers(context.Background(), in, record); err == nil || !strings.Contains(err.Error(), "they have the sha256") {
		t.Errorf("answers that were changed: %v", err)
	}
	l.File("proc/cmdline", "ashlar.answers="+server.URL+"\n")
	if _, _, err := findAnswers(context.Background(), in, record); err == nil || !strings.Contains(err.Error(), "ashlar.answers-sha256") {
		t.Errorf("answers without a digest: %v", err)
	}
}

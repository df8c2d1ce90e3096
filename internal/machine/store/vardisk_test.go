package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/program"
)

const varUUID = "6f1ed002-ab57-4d31-8d5e-0e1f5a1c2b3d"

// What is written is what is read; a machine without the file has /var in the store.
func TestVarDisk(t *testing.T) {
	s := newStore(t)
	if v, err := s.VarDisk(); v != nil || err != nil {
		t.Errorf("without a file: %+v, %v", v, err)
	}
	want := VarDisk{Schema: VarSchema, PartUUID: varUUID, Disk: "virtio-two", Encrypted: true}
	key := bytes.Repeat([]byte{0, '\n', 0xff, 7}, VarKeySize/4)
	if err := s.WriteVarDisk(&want, key); err != nil {
		t.Fatal(err)
	}
	if v, err := s.VarDisk(); err != nil || *v != want {
		t.Errorf("read %+v, %v", v, err)
	}
	if got, err := s.VarKey(); err != nil || !bytes.Equal(got, key) {
		t.Errorf("the key is %x, %v", got, err)
	}
	if st, err := os.Stat(s.path(varKeyFile)); err != nil || st.Mode() != 0o400 {
		t.Errorf("the key's file: %v, %v", st, err)
	}
	if names, err := s.Unknown(); err != nil || len(names) > 0 {
		t.Errorf("strangers in the store: %q, %v", names, err)
	}
	if err := s.WriteVarDisk(&want, key[1:]); err == nil {
		t.Error("a short key is written")
	}
}

// What the first process of a boot reads is strict, and has limits.
func TestBadVarDisk(t *testing.T) {
	s := newStore(t)
	good := `{"schema": 1, "partuuid": "` + varUUID + `", "disk": "virtio-two", "encrypted": false}`
	for name, c := range map[string]struct{ old, new, want string }{
		"schema":       {`"schema": 1`, `"schema": 2`, `field "schema"`},
		"upper case":   {varUUID, strings.ToUpper(varUUID), `field "partuuid"`},
		"no UUID":      {varUUID, "/dev/vdb1", `field "partuuid"`},
		"zero":         {varUUID, "00000000-0000-0000-0000-000000000000", `field "partuuid"`},
		"no disk":      {`virtio-two`, ``, `field "disk"`},
		"control":      {`virtio-two`, `virtio\u001b[2J`, `field "disk"`},
		"long":         {`virtio-two`, strings.Repeat("x", 513), `field "disk"`},
		"unknown":      {`"encrypted"`, `"enciphered"`, "unknown field"},
		"two":          {`false}`, `false} {}`, "more follows"},
		"too long":     {`virtio-two`, strings.Repeat("x", maxVarFile), "too long"},
		"another type": {`false`, `"no"`, "string"},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		if err := os.WriteFile(s.path(varFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if v, err := s.VarDisk(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, error is %v, want one with %q", name, v, err, c.want)
		}
	}
	if err := os.WriteFile(s.path(varKeyFile), make([]byte, 3), 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := s.VarKey(); err == nil || !strings.Contains(err.Error(), "has 3 bytes") {
		t.Errorf("a short key: %v", err)
	}
}

func FuzzVarDisk(f *testing.F) {
	f.Add([]byte(`{"schema": 1, "partuuid": "` + varUUID + `", "disk": "virtio-two", "encrypted": true}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := decodeVarDisk(b); err == nil && (len(v.PartUUID) != 36 || strings.ContainsAny(v.Disk, "\n\x1b\x00")) {
			t.Errorf("%+v", v)
		}
	})
}

// A reset empties a /var that has a disk of its own, keeps the disk, and does not take
// the place where it is mounted for it.
func TestResetVarDisk(t *testing.T) {
	s := newStore(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	record := VarDisk{Schema: VarSchema, PartUUID: varUUID, Disk: "virtio-two"}
	must(s.WriteVarDisk(&record, nil))
	must(s.AskReset())
	if did, err := s.Reset(); !did || err == nil || !strings.Contains(err.Error(), `/var is on the disk "virtio-two", and that is not mounted`) {
		t.Errorf("not mounted: %v, %v", did, err)
	}
	if !s.ResetAsked() {
		t.Fatal("it counts as done")
	}

	disk := filepath.Join(t.TempDir(), "disk")
	must(os.WriteFile(disk, nil, 0o600))
	must(os.Truncate(disk, 16<<20))
	for _, args := range [][]string{{"mke2fs", "-q", "-F", "-t", "ext4", disk}, {"mount", "-o", "loop", disk, s.VarPath()}} {
		_, err := program.Run(context.Background(), program.Command{Args: args})
		must(err)
	}
	defer func() {
		_, err := program.Run(context.Background(), program.Command{Args: []string{"umount", s.VarPath()}})
		must(err)
	}()
	for _, name := range []string{"home/ada/thesis", ".hidden", "lost+found/#12"} {
		path := filepath.Join(s.VarPath(), name)
		must(os.MkdirAll(filepath.Dir(path), 0o755))
		must(os.WriteFile(path, []byte("content"), 0o600))
	}
	must(os.Symlink("/etc", filepath.Join(s.VarPath(), "link")))
	if did, err := s.Reset(); !did || err != nil || s.ResetAsked() {
		t.Errorf("reset: %v, %v", did, err)
	}
	list, err := os.ReadDir(s.VarPath())
	must(err)
	if len(list) != 1 || list[0].Name() != "lost+found" {
		t.Errorf("left: %v", list)
	}
	if list, err := os.ReadDir(filepath.Join(s.VarPath(), "lost+found")); err != nil || len(list) > 0 {
		t.Errorf("left in lost+found: %v, %v", list, err)
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Error(err)
	}
	if v, err := s.VarDisk(); err != nil || *v != record {
		t.Errorf("the record is %+v now, %v", v, err)
	}
	if _, err := os.Lstat(filepath.Join(s.path(tmpDir), varDir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is in tmp: %v", err)
	}
}

package cli

import (
	"os"
	"path/filepath"
	"testing"
)

// Where /var has a disk of its own, status says which, and what is free there.
func TestVarStatus(t *testing.T) {
	f, v1 := newFakeMachine(t)
	if f.status().Var != nil {
		t.Error("without a record there is one")
	}
	if err := os.MkdirAll(filepath.Join(f.c.Root, "var"), 0o755); err != nil {
		t.Fatal(err)
	}
	for encryption, want := range map[string]string{
		"null": "var         on \"/dev/vdb1\" of the disk virtio-two; ",
		`{"device": "/dev/vdb1", "uuid": "0b1c", "wrong": 0}`: "var         on \"/dev/vdb1\" of the disk virtio-two, encrypted (LUKS2); ",
	} {
		f.write("run/ashlar/boot.json", `{"schema": 1, "image": "`+v1.Image().String()+`", "foreign": "refuse", "ignored": [],
			"var": {"id": "virtio-two", "disk": "vdb", "device": "/dev/vdb1", "partuuid": "6f1ed002-ab57-4d31-8d5e-0e1f5a1c2b3d", "file_system": "ext4", "encryption": `+encryption+`}}`)
		f.ok(want, "status")
	}
	if v := f.status().Var; v == nil || v.Device != "/dev/vdb1" || v.Free <= 0 || v.Total < v.Free {
		t.Errorf("status --json: %+v", v)
	}
}

package composefs

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// fsck lets the kernel developers' checker judge an image.
func fsck(t *testing.T, image []byte) {
	t.Helper()
	program, err := exec.LookPath("fsck.erofs")
	if err != nil {
		t.Fatalf("this test needs Debian's package erofs-utils: %v", err)
	}
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, image, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, path).CombinedOutput(); err != nil {
		t.Errorf("fsck.erofs finds fault with the image: %v\n%s", err, out)
	}
}

func TestVectorsPassFsck(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.name, func(t *testing.T) { fsck(t, write(t, parse(t, v.dump), v.options)) })
	}
}

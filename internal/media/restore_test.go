package media

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/media/drive"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// fileDrive is a drive that is a file, with something old on it.
func fileDrive(t *testing.T, size int64) (drive.Device, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "drive")
	d, err := drive.CreateFile(path, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	old := drive.Buffer(drive.Block)
	copy(old, bytes.Repeat([]byte("old"), drive.Block/3))
	for _, off := range []int64{0, 1 << 20, 5 << 20, (size - drive.Block) &^ (drive.Block - 1)} {
		if _, err := d.WriteAt(old, off); err != nil {
			t.Fatal(err)
		}
	}
	return d, path
}

// What Restore leaves is judged by sgdisk and by the file system's own fsck.
func TestRestore(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  int64
		o     RestoreOptions
		check []string
		holds string
	}{
		{"FAT32", 600 << 20, RestoreOptions{}, []string{"fsck.vfat", "-n"}, "FAT32   "},
		{"a small one", 40<<20 + 512, RestoreOptions{Label: "KEYS"}, []string{"fsck.vfat", "-n"}, "KEYS"},
		{"exFAT", 200<<20 + 1536, RestoreOptions{System: ExFAT}, []string{"fsck.exfat", "-n"}, "EXFAT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, path := fileDrive(t, c.size)
			c.o.Name, c.o.Work = "/dev/fake", t.TempDir()
			got, err := Restore(context.Background(), d, c.o, progress.None)
			if err != nil {
				t.Fatal(err)
			}
			if got.Bytes == 0 || got.Bytes > 16<<20 {
				t.Errorf("it wrote %d bytes", got.Bytes)
			}
			out, err := program.Run(context.Background(), program.Command{Args: []string{"sgdisk", "-v", path}})
			if err != nil || !strings.Contains(string(out), "No problems found") {
				t.Errorf("sgdisk: %v\n%s", err, out)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			table, err := gpt.Read(f, 512)
			if err != nil || len(table.Partitions) != 1 || table.Partitions[0].Start != 1<<20 {
				t.Fatalf("its table is %+v: %v", table, err)
			}
			volume := make([]byte, table.Partitions[0].Size)
			if _, err := f.ReadAt(volume, 1<<20); err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(volume[:4096], []byte(c.holds)) {
				t.Errorf("its partition does not begin with %q", c.holds)
			}
			image := filepath.Join(t.TempDir(), "volume")
			if err := os.WriteFile(image, volume, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := program.Run(context.Background(), program.Command{Args: append(c.check, image)}); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if left, err := os.ReadDir(c.o.Work); err != nil || len(left) > 0 {
				t.Errorf("it left %v behind (%v)", left, err)
			}
		})
	}
}

func TestRestoreRefuses(t *testing.T) {
	d, _ := fileDrive(t, 6<<20)
	_, err := Restore(context.Background(), d, RestoreOptions{Name: "x", System: "ntfs"}, progress.None)
	if err == nil || !strings.Contains(err.Error(), `no file system is called "ntfs"`) {
		t.Errorf("it says %v", err)
	}
	if _, err := Restore(context.Background(), newFakeDrive(1<<20), RestoreOptions{Name: "x"}, progress.None); err == nil ||
		!strings.Contains(err.Error(), "no file system fits on it") {
		t.Errorf("it says %v", err)
	}
}

package diskimage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/ashlar-os/ashlar/internal/program"
)

// loaderConf is loader/loader.conf. It never names a default: order comes
// from the versions of the boot files alone, because a default would win over
// boot counting. Without the editor nobody at the keyboard can change a
// kernel's command line.
const loaderConf = "timeout 0\neditor no\n"

// writeESP makes the file system of partition 1 in the disk at job.disk().
func (j *job) writeESP(ctx context.Context) error {
	conf := filepath.Join(j.work, "loader.conf")
	loader := filepath.Join(j.work, "loader.efi")
	for path, data := range map[string][]byte{conf: []byte(loaderConf), loader: j.content.Loader} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fmt.Errorf("writing the ESP: %w", err)
		}
	}
	// --invariant is for the time of the volume label, which nothing else sets.
	p := j.layout.esp
	cluster := "8" // sectors
	if p.Size < 512*mib {
		cluster = "1" // FAT32 needs many clusters
	}
	drive := fmt.Sprintf("%s@@%d", j.disk(), p.Start)
	for _, args := range [][]string{
		{"mkfs.vfat", "--invariant", "-F", "32", "-S", strconv.Itoa(sectorSize), "-s", cluster,
			"-h", strconv.FormatInt(p.Start/sectorSize, 10), "--offset", strconv.FormatInt(p.Start/sectorSize, 10),
			"-n", "ASHLAR-ESP", "-i", fmt.Sprintf("%08x", j.id.volumeID("esp")),
			j.disk(), strconv.FormatInt(p.Size/1024, 10)},
		{"mmd", "-i", drive, "::/EFI", "::/EFI/BOOT", "::/EFI/Linux", "::/EFI/systemd", "::/loader"},
		{"mcopy", "-i", drive, loader, "::/EFI/BOOT/BOOTX64.EFI"},
		{"mcopy", "-i", drive, loader, "::/EFI/systemd/systemd-bootx64.efi"},
		{"mcopy", "-i", drive, conf, "::/loader/loader.conf"},
		{"mcopy", "-i", drive, filepath.Join(j.work, "uki"), "::/EFI/Linux/" + j.content.bootFile()},
	} {
		if _, err := program.Run(ctx, program.Command{Args: args, Env: j.env()}); err != nil {
			return fmt.Errorf("writing the ESP: %w", err)
		}
	}
	return nil
}

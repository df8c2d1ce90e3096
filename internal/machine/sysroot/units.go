package sysroot

import (
	"fmt"
	"os"
	"path/filepath"
)

// efiMount and efiAutomount show the ESP that this boot came from at /efi, and no
// other; mounted when somebody looks, for FAT is safest while it is not mounted.
const (
	efiMount = `# Written by ashlar-init at every boot.
[Unit]
Description=EFI system partition that this boot came from

[Mount]
What=/dev/disk/by-partuuid/%s
Where=/efi
Type=vfat
Options=rw,umask=0077,nosuid,nodev,noexec
`
	efiAutomount = `# Written by ashlar-init at every boot.
[Unit]
Description=EFI system partition, mounted when it is used

[Automount]
Where=/efi
TimeoutIdleSec=60
`
	// The image's loop device keeps /sysroot in use until the end, so stopping
	// it can only fail. Left alone it is what systemd-shutdown makes read-only
	// last, and the file system is clean.
	sysrootMount = `# Written by ashlar-init at every boot.
[Unit]
DefaultDependencies=no
`
)

// writeUnits writes the units that only this boot can know into dir, which
// systemd reads from /run.
func writeUnits(dir, esp string) error {
	wants := filepath.Join(dir, "local-fs.target.wants")
	for _, d := range []string{wants, filepath.Join(dir, "sysroot.mount.d")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("writing units: %w", err)
		}
	}
	for name, text := range map[string]string{
		"efi.mount":                   fmt.Sprintf(efiMount, esp),
		"efi.automount":               efiAutomount,
		"sysroot.mount.d/ashlar.conf": sysrootMount,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("writing units: %w", err)
		}
	}
	if err := os.Symlink("../efi.automount", filepath.Join(wants, "efi.automount")); err != nil && !os.IsExist(err) {
		return fmt.Errorf("writing units: %w", err)
	}
	return nil
}

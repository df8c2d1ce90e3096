package sysroot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// efiMount and efiAutomount show the ESP that this boot came from at /efi, and no
// other; mounted when somebody looks, for FAT is safest while it is not mounted.
//
// Linux's vfat writes a name, what it leads to and the removal of another name
// when it likes, but in their order with dirsync: a rename that is cut then leaves
// the one name, the other, or both, and not neither. Of both, and of clusters that
// no name leads to, fsck.vfat makes something that can be mounted and cleaned up;
// writing to it as it is might not. Where the image has no fsck.vfat there is no
// check (systemd-fsck@.service(8)), and where the check fails there is still a mount.
const (
	efiMount = `# Written by ashlar-init at every boot.
[Unit]
Description=EFI system partition that this boot came from
Wants=systemd-fsck@dev-disk-by\x2dpartuuid-%[2]s.service
After=systemd-fsck@dev-disk-by\x2dpartuuid-%[2]s.service

[Mount]
What=/dev/disk/by-partuuid/%[1]s
Where=/efi
Type=vfat
Options=rw,umask=0077,nosuid,nodev,noexec,dirsync
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
		"efi.mount":                   fmt.Sprintf(efiMount, esp, strings.ReplaceAll(esp, "-", `\x2d`)),
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

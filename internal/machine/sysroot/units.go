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

// liveTarget is what is started on a medium: an image with a desktop would
// otherwise take the screen on which the installer asks.
const liveTarget = "multi-user.target"

// installUnit is a template in the image, of the installer on one terminal.
const installUnit = "ashlar-install@%s.service"

// writeLiveUnits writes the units of a boot from a medium into dir: on each of these
// terminals, the installer takes the place of the login.
func writeLiveUnits(dir string, terminals []string) error {
	wants := filepath.Join(dir, liveTarget+".wants")
	for _, d := range []string{wants, filepath.Join(dir, "sysroot.mount.d")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("writing units: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "sysroot.mount.d/ashlar.conf"), []byte(sysrootMount), 0o644); err != nil {
		return fmt.Errorf("writing units: %w", err)
	}
	for _, tty := range terminals {
		login := "serial-getty@" + tty + ".service"
		if tty == screen {
			login = "getty@" + tty + ".service"
		}
		for link, target := range map[string]string{
			filepath.Join(dir, login):                           os.DevNull,
			filepath.Join(wants, fmt.Sprintf(installUnit, tty)): "/usr/lib/systemd/system/" + fmt.Sprintf(installUnit, ""),
		} {
			if err := os.Symlink(target, link); err != nil && !os.IsExist(err) {
				return fmt.Errorf("writing units: %w", err)
			}
		}
	}
	return nil
}

package diskimage

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/ashlar-os/ashlar/internal/image/efivar"
	"github.com/ashlar-os/ashlar/internal/program"
)

// loaderConf is loader/loader.conf. It never names a default: order comes
// from the versions of the boot files alone, because a default would win over
// boot counting. Without the editor nobody at the keyboard can change a
// kernel's command line.
const loaderConf = "timeout 0\neditor no\n"

// Enroll is what the loader gives a firmware in setup mode at the first start.
type Enroll struct {
	Keys *efivar.Enrolment // nil: nothing
	How  string            // loader.conf's word: "if-safe", which is in virtual machines, or "force"
}

// check refuses a disk that would not start any more once its keys are enrolled.
func (e Enroll) check(c *Content) error {
	if e.Keys == nil {
		return nil
	}
	if err := e.Keys.Starts(bytes.NewReader(c.Loader), int64(len(c.Loader))); err != nil {
		return fmt.Errorf("under the Secure Boot keys it would enrol, its loader would not start: %w", err)
	}
	uki, err := os.Open(c.UKI)
	if err != nil {
		return err
	}
	defer uki.Close()
	info, err := uki.Stat()
	if err != nil {
		return err
	}
	if err := e.Keys.Starts(uki, info.Size()); err != nil {
		return fmt.Errorf("under the Secure Boot keys it would enrol, its boot file would not start: %w", err)
	}
	return nil
}

// autoDir is where systemd-boot finds keys that it enrols by itself.
const autoDir = "loader/keys/auto"

// writeESP makes the file system of partition 1 in the disk at job.disk().
func (j *job) writeESP(ctx context.Context) error {
	conf := filepath.Join(j.work, "loader.conf")
	loader := filepath.Join(j.work, "loader.efi")
	files := map[string][]byte{conf: []byte(loaderConf), loader: j.content.Loader}
	var keys []string
	if e := j.enroll.Keys; e != nil {
		files[conf] = []byte(loaderConf + "secure-boot-enroll " + j.enroll.How + "\n")
		for name, data := range map[string][]byte{"db.auth": e.RawDB, "KEK.auth": e.RawKEK, "PK.auth": e.RawPK} {
			files[filepath.Join(j.work, name)] = data
		}
		for _, name := range efivar.Files {
			keys = append(keys, filepath.Join(j.work, name))
		}
	}
	for path, data := range files {
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
	commands := [][]string{
		{"mkfs.vfat", "--invariant", "-F", "32", "-S", strconv.Itoa(sectorSize), "-s", cluster,
			"-h", strconv.FormatInt(p.Start/sectorSize, 10), "--offset", strconv.FormatInt(p.Start/sectorSize, 10),
			"-n", "ASHLAR-ESP", "-i", fmt.Sprintf("%08x", j.id.volumeID("esp")),
			j.disk(), strconv.FormatInt(p.Size/1024, 10)},
		{"mmd", "-i", drive, "::/EFI", "::/EFI/BOOT", "::/EFI/Linux", "::/EFI/systemd", "::/loader"},
		{"mcopy", "-i", drive, loader, "::/EFI/BOOT/BOOTX64.EFI"},
		{"mcopy", "-i", drive, loader, "::/EFI/systemd/systemd-bootx64.efi"},
		{"mcopy", "-i", drive, conf, "::/loader/loader.conf"},
		{"mcopy", "-i", drive, filepath.Join(j.work, "uki"), "::/EFI/Linux/" + j.content.bootFile()},
	}
	if len(keys) > 0 {
		commands = append(commands, []string{"mmd", "-i", drive, "::/loader/keys", "::/" + autoDir},
			append(append([]string{"mcopy", "-i", drive}, keys...), "::/"+autoDir))
	}
	for _, args := range commands {
		if _, err := program.Run(ctx, program.Command{Args: args, Env: j.env()}); err != nil {
			return fmt.Errorf("writing the ESP: %w", err)
		}
	}
	return nil
}

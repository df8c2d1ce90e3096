package esp

import (
	"bytes"
	"fmt"
	"os"

	"github.com/ashlar-os/ashlar/internal/image/efivar"
)

// conf is loader/loader.conf. It never names a default: order comes from the
// versions of the boot files alone, because a default would win over boot counting.
// Without the editor nobody at the keyboard can change a kernel's command line.
const conf = "timeout 0\neditor no\n"

// Paths on an ESP.
const (
	Fallback = "EFI/BOOT/BOOTX64.EFI"
	BootDir  = "EFI/Linux/"
	confPath = "loader/loader.conf"
	autoDir  = "loader/keys/auto/" // where systemd-boot finds keys that it enrols by itself
)

// Enroll is what the loader gives a firmware in setup mode at the first start.
type Enroll struct {
	Keys *efivar.Enrolment // nil: nothing
	How  string            // loader.conf's word: "if-safe", which is in virtual machines, or "force"
}

// Check refuses a loader and a boot file, at a path, that would not start any more
// once the keys are enrolled.
func (e Enroll) Check(loader []byte, bootFile string) error {
	if e.Keys == nil {
		return nil
	}
	if err := e.Keys.Starts(bytes.NewReader(loader), int64(len(loader))); err != nil {
		return fmt.Errorf("under the Secure Boot keys it would enrol, its loader would not start: %w", err)
	}
	uki, err := os.Open(bootFile)
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

// Files are the loader's configuration and the keys.
func (e Enroll) Files() []File {
	if e.Keys == nil {
		return []File{{Path: confPath, Content: []byte(conf)}}
	}
	return []File{
		{Path: confPath, Content: []byte(conf + "secure-boot-enroll " + e.How + "\n")},
		{Path: autoDir + "PK.auth", Content: e.Keys.RawPK},
		{Path: autoDir + "KEK.auth", Content: e.Keys.RawKEK},
		{Path: autoDir + "db.auth", Content: e.Keys.RawDB},
	}
}

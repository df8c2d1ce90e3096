package compose

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// healthUnits decide whether a boot was good, and are switched on.
var healthUnits = []string{"ashlar-health.service", "ashlar-health-failed.service", "ashlar-steady.service", "ashlar-watchdog.service"}

// machineHealth is /usr/lib/ashlar/health.toml: what the image calls healthy.
type machineHealth struct {
	Units   []string `toml:"units"`
	Network bool     `toml:"network"`
	Timeout int      `toml:"timeout"`
}

// maxCheck is how large a health check may be, in bytes.
const maxCheck = 16 << 20

// addHealth installs the health checks, what they need of systemd, and the watchdog.
func (b *builder) addHealth(t *tree.Tree) error {
	r := b.o.Recipe
	for _, unit := range append([]string{"ashlar-settled.service", "ashlar-settled.timer"}, healthUnits...) {
		if err := b.putUnit(t, unit); err != nil {
			return err
		}
	}
	for _, unit := range r.Health.Units {
		if _, n := findUnit(t, unit); n == nil {
			return fmt.Errorf("health.units: %q: there is no such unit in the tree", unit)
		}
	}
	network := r.Health.Network != nil && *r.Health.Network
	text, err := toml.Marshal(machineHealth{r.RequiredUnits(), network, r.HealthTimeout()})
	if err != nil {
		return err
	}
	if err := b.putFile(t, "/usr/lib/ashlar/health.toml", 0o644, text); err != nil {
		return err
	}
	if network {
		// Who asks for the network waits for it, and nobody else does.
		err := b.putFile(t, "/usr/lib/systemd/system/ashlar-health.service.d/network.conf", 0o644,
			[]byte("[Unit]\nWants=network-online.target\nAfter=network-online.target\n"))
		if err != nil {
			return err
		}
	}
	for _, source := range r.Health.Checks {
		if err := b.addCheck(t, source); err != nil {
			return fmt.Errorf("health check %q: %w", source, err)
		}
	}
	// Debian 13's systemd takes CrashReboot= for CrashAction=reboot, and older ones know
	// nothing else.
	conf := "[Manager]\nCrashReboot=yes\n"
	if seconds := r.Watchdog(); seconds > 0 {
		conf += fmt.Sprintf("RuntimeWatchdogSec=%d\n", seconds)
	}
	return b.putFile(t, "/usr/lib/systemd/system.conf.d/50-ashlar.conf", 0o644, []byte(conf))
}

func (b *builder) addCheck(t *tree.Tree, source string) error {
	st, err := os.Stat(source)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Size() > maxCheck {
		return fmt.Errorf("it is no regular file of at most %d bytes", maxCheck)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(text, []byte("#!")) && !bytes.HasPrefix(text, []byte("\x7fELF")) {
		return fmt.Errorf("it is no program: it begins neither with %q nor as ELF", "#!")
	}
	return b.putFile(t, "/usr/lib/ashlar/health.d/"+filepath.Base(source), 0o755, text)
}

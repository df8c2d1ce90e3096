package compose

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// unitFiles are the agent's systemd units and what belongs to them.
//
//go:embed units
var unitFiles embed.FS

// machineUpdate is /usr/lib/ashlar/update.toml: where a machine that nobody
// told otherwise looks for releases.
type machineUpdate struct {
	Repository string `toml:"repository"`
	Channel    string `toml:"channel"`
	Interval   string `toml:"interval"`
}

// addAgent installs the agent, its units, and what the recipe says about updates.
func (b *builder) addAgent(t *tree.Tree) error {
	u := b.o.Recipe.Update
	if u.Repository != "" {
		text, err := toml.Marshal(machineUpdate{u.Repository, u.Channel, u.Interval})
		if err != nil {
			return err
		}
		if err := b.putFile(t, "/usr/lib/ashlar/update.toml", 0o644, text); err != nil {
			return err
		}
	}
	if needsHostKeys(t) {
		if err := b.putUnit(t, hostKeysUnit); err != nil {
			return err
		}
	}
	if b.o.Agent.Ashlar == "" {
		return nil
	}
	f, err := os.Open(b.o.Agent.Ashlar)
	if err != nil {
		return err
	}
	defer f.Close()
	n := &tree.Node{Mode: tree.TypeRegular | 0o755}
	if err := b.spool.fillReader(n, f); err != nil {
		return err
	}
	if err := put(t, "/usr/bin/ashlar", n); err != nil {
		return err
	}
	for _, unit := range []string{"ashlar-update.service", "ashlar-update.timer", "ashlar-booted.service", "ashlar-install@.service"} {
		if err := b.putUnit(t, unit); err != nil {
			return err
		}
	}
	if err := b.addHealth(t); err != nil {
		return err
	}
	interval := fmt.Sprintf("[Timer]\nOnUnitActiveSec=%s\n", u.Interval)
	return b.putFile(t, "/usr/lib/systemd/system/ashlar-update.timer.d/interval.conf", 0o644, []byte(interval))
}

// agentUnits are the units of addAgent that are switched on.
func (b *builder) agentUnits(t *tree.Tree) []string {
	var list []string
	if _, n := findUnit(t, hostKeysUnit); n != nil {
		list = append(list, hostKeysUnit)
	}
	if b.o.Agent.Ashlar != "" {
		// The timer too where the recipe names no repository: "ashlar switch" may.
		list = append(list, "ashlar-booted.service", "ashlar-update.timer")
		list = append(list, healthUnits...)
	}
	return list
}

// hostKeysUnit makes the SSH host keys that a machine lacks. Debian's
// sshd-keygen.service never would: it has ConditionFirstBoot=, and to systemd no
// boot of an image is the first, see cleanEtc.
const hostKeysUnit = "ashlar-ssh-keys.service"

func needsHostKeys(t *tree.Tree) bool {
	return follow(t, "/usr/sbin/sshd") != nil
}

func (b *builder) putUnit(t *tree.Tree, name string) error {
	text, err := fs.ReadFile(unitFiles, path.Join("units", name))
	if err != nil {
		return err
	}
	return b.putFile(t, "/usr/lib/systemd/system/"+name, 0o644, text)
}

// nameSystem writes what says which system this is: os-release(5) with the
// image's name and version, and a host name where there is none.
func (b *builder) nameSystem(t *tree.Tree) error {
	r := b.o.Recipe
	var old string
	if n := followFile(t, "/usr/lib/os-release"); n != nil {
		text, err := b.spool.content(n, maxUnit)
		if err != nil {
			return err
		}
		old = string(text)
	} else {
		old = "NAME=Linux\nID=linux\n"
	}
	var text strings.Builder
	for _, line := range strings.Split(strings.TrimSpace(old), "\n") {
		if !strings.HasPrefix(line, "IMAGE_ID=") && !strings.HasPrefix(line, "IMAGE_VERSION=") {
			text.WriteString(line + "\n")
		}
	}
	fmt.Fprintf(&text, "IMAGE_ID=%s\nIMAGE_VERSION=%s\n", r.Name, r.Version)
	b.result.OSRelease = []byte(text.String())
	if err := b.putFile(t, "/usr/lib/os-release", 0o644, b.result.OSRelease); err != nil {
		return err
	}
	if follow(t, "/etc/os-release") == nil {
		if err := putSymlink(t, "/etc/os-release", "../usr/lib/os-release"); err != nil {
			return err
		}
	}
	if follow(t, "/etc/hostname") == nil {
		if err := b.putFile(t, "/etc/hostname", 0o644, []byte(strings.ReplaceAll(r.Name, "_", "-")+"\n")); err != nil {
			return err
		}
	}
	const stub = "../run/systemd/resolve/stub-resolv.conf"
	if follow(t, "/etc/resolv.conf") == nil && follow(t, "/usr/lib/systemd/systemd-resolved") != nil {
		return putSymlink(t, "/etc/resolv.conf", stub)
	}
	return nil
}

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/pelletier/go-toml/v2"

	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// expiryFile is where a directory of keys says for how long its signatures are
// good. People write it, or `ashlar keys init --expires`; docs/trust.md has it.
const expiryFile = "expiry.toml"

// maxExpiryFile limits that file, in bytes.
const maxExpiryFile = 4096

// expiry is the content of the file: periods such as "7d"; an empty one is the default.
type expiry struct {
	Root      period `toml:"root,omitempty" json:"root"`
	Targets   period `toml:"targets,omitempty" json:"targets"` // of channels too
	Snapshot  period `toml:"snapshot,omitempty" json:"snapshot"`
	Timestamp period `toml:"timestamp,omitempty" json:"timestamp"`
}

// period is a time with one unit: s, m, h, d, w or y of 365 days.
type period string

var periodUnits = map[byte]time.Duration{
	's': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour, 'y': 365 * 24 * time.Hour,
}

const maxPeriod = 20 * 365 * 24 * time.Hour

func (p period) duration() (time.Duration, error) {
	if p == "" {
		return 0, nil
	}
	unit := periodUnits[p[len(p)-1]]
	n, err := strconv.ParseUint(string(p[:len(p)-1]), 10, 32)
	if err != nil || unit == 0 || n == 0 || n > uint64(maxPeriod/unit) {
		return 0, fmt.Errorf("the period %.40q is not a number and one of s, m, h, d, w, y, of 1s to 20y", string(p))
	}
	return time.Duration(n) * unit, nil
}

// periodOf is a duration in the largest unit that it is a whole number of; weeks are said in days.
func periodOf(d time.Duration) period {
	for _, unit := range "ydhm" {
		if size := periodUnits[byte(unit)]; d%size == 0 {
			return period(fmt.Sprintf("%d%c", d/size, unit))
		}
	}
	return period(fmt.Sprintf("%ds", d/time.Second))
}

func (e *expiry) roles() map[string]*period {
	return map[string]*period{
		trust.RoleRoot: &e.Root, trust.RoleTargets: &e.Targets, trust.RoleSnapshot: &e.Snapshot, trust.RoleTimestamp: &e.Timestamp,
	}
}

func (e *expiry) check() error {
	for role, p := range e.roles() {
		if _, err := p.duration(); err != nil {
			return fmt.Errorf("%s: %w", role, err)
		}
	}
	return nil
}

// durations is what package trust takes; e was checked.
func (e expiry) durations() trust.Expiry {
	in := func(p period) time.Duration {
		d, _ := p.duration()
		return d
	}
	return trust.Expiry{Root: in(e.Root), Targets: in(e.Targets), Snapshot: in(e.Snapshot), Timestamp: in(e.Timestamp)}
}

// effective fills in the defaults.
func (e expiry) effective() expiry {
	def := trust.DefaultExpiry()
	for role, d := range map[string]time.Duration{
		trust.RoleRoot: def.Root, trust.RoleTargets: def.Targets, trust.RoleSnapshot: def.Snapshot, trust.RoleTimestamp: def.Timestamp,
	} {
		if p := e.roles()[role]; *p == "" {
			*p = periodOf(d)
		}
	}
	return e
}

// parseExpiry reads --expires ROLE=PERIOD.
func parseExpiry(words []string) (expiry, error) {
	var e expiry
	for _, word := range words {
		role, value, _ := strings.Cut(word, "=")
		p, ok := e.roles()[role]
		if !ok || value == "" {
			return e, fmt.Errorf("--expires %q: want ROLE=PERIOD, such as timestamp=7d; roles are root, targets (and channels with it), snapshot, timestamp", word)
		}
		*p = period(value)
	}
	if err := e.check(); err != nil {
		return e, fmt.Errorf("--expires: %w", err)
	}
	return e, nil
}

// readExpiry reads the file of a directory of keys, which need not be there.
func readExpiry(dir string) (e expiry, err error) {
	path := filepath.Join(dir, expiryFile)
	b, err := limited.File(path, maxExpiryFile)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err == nil {
		dec := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
		err = dec.Decode(&e)
	}
	if err == nil {
		err = e.check()
	}
	if err != nil {
		return e, fmt.Errorf("reading %q: %w", path, err)
	}
	return e, nil
}

// writeExpiry writes what differs from the defaults; nothing where nothing does.
func writeExpiry(dir string, e expiry) error {
	if e == (expiry{}) {
		return nil
	}
	b, err := toml.Marshal(e)
	if err != nil {
		return err
	}
	head := "# For how long signatures are good. What is not here: see ashlar keys init --help.\n"
	return renameio.WriteFile(filepath.Join(dir, expiryFile), slices.Concat([]byte(head), b), 0o644)
}

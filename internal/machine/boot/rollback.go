package boot

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
)

// Plan is a rollback, or the way forward again: renames of boot files after
// which the target is the loader's first choice. Empty Renames mean that it is
// already.
type Plan struct {
	Target  esp.Entry `json:"target"` // as it will be
	Renames []Rename  `json:"renames"`
}

// Rename gives a boot file in EFI/Linux another counter.
type Rename struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// ErrNoEntry is returned for a target that has no boot file the loader would start.
var ErrNoEntry = errors.New("it has no boot entry")

// PlanRollback plans to boot the image target from now on.
//
// Every entry that the loader prefers to the target is retired ("+0"), which
// sorts it behind all others and makes the choice stick. A target that is
// retired itself gets its tries back first, counted: should it fail, the
// machine comes back by itself.
//
// Order is what makes it safe to cut. First the target is made eligible; that
// can only make the target itself the next to boot. Then the others are
// retired from the one next to the target up to the loader's present choice,
// so that choice stays until the last rename takes it away. After each step
// the machine boots what it would have booted before, or the target.
func PlanRollback(entries []esp.Entry, target verity.Digest) (*Plan, error) {
	t, ok := esp.Find(entries, target)
	if !ok {
		return nil, fmt.Errorf("planning to boot %s: %w", target.Short(), ErrNoEntry)
	}
	if other, twice := double(entries); twice {
		return nil, fmt.Errorf("planning to boot %s: %q has another boot file under the same name; remove one", target.Short(), other)
	}
	p := &Plan{Target: t, Renames: []Rename{}}
	if t.Exhausted() {
		p.Target = t.WithCounter(esp.Tries, 0)
		p.Renames = append(p.Renames, Rename{t.File, p.Target.File})
	}
	sorted := slices.Clone(entries)
	for i := range sorted {
		if sorted[i].File == t.File {
			sorted[i] = p.Target
		}
	}
	esp.Sort(sorted)
	at := slices.IndexFunc(sorted, func(e esp.Entry) bool { return e.File == p.Target.File })
	for _, e := range slices.Backward(sorted[:at]) {
		if e.Foreign {
			return nil, fmt.Errorf("planning to boot %s: the loader prefers %q, which is not Ashlar's to rename", target.Short(), e.File)
		}
		p.Renames = append(p.Renames, Rename{e.File, e.WithCounter(0, 0).File})
	}
	return p, nil
}

// Apply does the renames in order, each durable before the next. The store's
// lock must be held.
func (p *Plan) Apply(part *esp.ESP) error {
	for _, r := range p.Renames {
		if err := part.Rename(r.From, r.To); err != nil {
			return err
		}
	}
	return nil
}

// double finds an entry that is there in two counted forms: renaming one would
// meet the other.
func double(entries []esp.Entry) (string, bool) {
	seen := make(map[string]bool)
	for _, e := range entries {
		if e.Foreign {
			continue
		}
		if seen[e.Name] {
			return e.File, true
		}
		seen[e.Name] = true
	}
	return "", false
}

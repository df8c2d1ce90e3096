package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update"
)

// openToVerify opens the machine to look at, or to repair as well.
func openToVerify(o verifyOptions) (m *update.Machine, unlock func(), err error) {
	if o.repair {
		return lockMachine("verify")
	}
	m, err = openMachine()
	return m, func() {}, err
}

// repairer is `ashlar verify --repair`: what was found, and what was done about it.
type repairer struct {
	m      *update.Machine
	images []verity.Digest

	s      *update.State
	report *store.VerifyReport
	done   []update.Repair
}

// passes is how often a machine is measured and repaired: which objects an image
// needs can be told only once the image is whole, and the last time nothing should
// be left to do.
const passes = 3

// run repairs what can be repaired, and looks again. It returns the first thing
// that could not be.
func (r *repairer) run(ctx context.Context, g *globals) error {
	var failed error
	for range passes {
		plan, err := r.m.PlanRepair(r.s, r.images, r.report.Damaged)
		if err != nil {
			return err
		}
		if len(plan) == 0 || failed != nil {
			return failed
		}
		for i := range plan {
			if err := r.fetch(ctx, &plan[i], g); err == nil {
				r.done = append(r.done, plan[i])
			} else if failed == nil {
				failed = err
			}
		}
		if r.report, err = r.m.Store.Verify(ctx, r.images, g.progress); err != nil {
			return err
		}
		if r.s, err = r.m.Look(); err != nil {
			return err
		}
	}
	return failed
}

func (r *repairer) fetch(ctx context.Context, repair *update.Repair, g *globals) error {
	origin := repair.Origin()
	if origin.Repository == "" {
		return fmt.Errorf("cannot repair %s: it follows no repository to fetch from", repair.ID)
	}
	repo, _, err := openRepository(origin.Repository)
	if err != nil {
		return err
	}
	return r.m.Repair(ctx, repo, repair, g.progress)
}

func printRepair(g *globals, r update.Repair) {
	var what []string
	if r.DamagedImage {
		what = append(what, "its image")
	}
	switch n := len(r.Objects); n {
	case 0:
	case 1:
		what = append(what, "1 object")
	default:
		what = append(what, fmt.Sprintf("%d objects", n))
	}
	if r.BootFile != "" {
		what = append(what, fmt.Sprintf("its boot file %q", r.BootFile))
	}
	g.printf("repaired %s: %s fetched again\n", r.ID, strings.Join(what, ", "))
}

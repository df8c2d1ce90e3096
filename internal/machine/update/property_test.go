package update

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// TestAnyLife lives random lives of machines: releases, good and bad and
// withdrawn, rollbacks, pins, clean-ups, switches, and power cuts at any moment
// of staging. After every step DESIGN §5 must hold: the next boot is one of
// running, previous and staged, whole.
func TestAnyLife(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := newLife(t, seed)
			for range 40 {
				l.step()
				if t.Failed() {
					t.Fatalf("seed %d: %s", seed, strings.Join(l.log, "; "))
				}
			}
		})
	}
}

type life struct {
	*world
	rng     *rand.Rand
	log     []string
	version int
	all     map[verity.Digest]*updatetest.Release
	bad     map[verity.Digest]bool
	edits   map[verity.Digest]string    // what the administrator wrote into /etc of a deployment last
	sites   map[string]*updatetest.Site // by the image that they publish
	at      map[string][]string         // versions that they have, by the same
}

func newLife(t *testing.T, seed uint64) *life {
	w, v1 := newWorld(t)
	return &life{
		world: w, rng: rand.New(rand.NewPCG(seed, 1)), version: 10,
		all: map[verity.Digest]*updatetest.Release{v1.Image(): v1},
		bad: map[verity.Digest]bool{}, edits: map[verity.Digest]string{},
		sites: map[string]*updatetest.Site{"server": w.site}, at: map[string][]string{"server": {"1.0.0"}},
	}
}

// followed makes the site of what leads the one that is asked, as a timer does.
func (l *life) followed() {
	l.t.Helper()
	l.site, l.elsewhere = l.sites[l.look().Leading().Name], false
}

// anySite makes a site the one that is asked, as a person does with ashlar switch.
func (l *life) anySite() string {
	names := slices.Sorted(maps.Keys(l.sites))
	name := names[l.rng.IntN(len(names))]
	l.site, l.elsewhere = l.sites[name], true
	return name
}

func (l *life) step() {
	l.t.Helper()
	ops := []struct {
		name string
		do   func()
	}{
		{"publish", l.publishNext}, {"publish", l.publishNext}, {"withdraw", l.withdraw},
		{"update", l.updateFollowed}, {"update", l.updateFollowed},
		{"stage", l.stageAnything}, {"stage, cut", l.stageCut}, {"stage, cut", l.stageCut},
		{"rollback", l.goBack}, {"pin", l.pinAny}, {"edit", l.editEtc},
		{"reboot", l.reboot}, {"reboot", l.reboot}, {"gc", func() { l.gc() }},
	}
	op := ops[l.rng.IntN(len(ops))]
	l.log = append(l.log, op.name)
	op.do()
	l.invariant()
}

func (l *life) updateFollowed() {
	l.followed()
	l.update()
}

func (l *life) publishNext() {
	l.version++
	name := "server"
	if l.rng.IntN(6) == 0 {
		name = []string{"alpha", "zulu"}[l.rng.IntN(2)]
	}
	if l.sites[name] == nil {
		l.sites[name] = updatetest.NewSite(l.t)
	}
	version := fmt.Sprintf("%d.0.0", l.version)
	r := l.sites[name].Publish(updatetest.Spec{Name: name, Version: version})
	l.at[name] = append(l.at[name], version)
	l.all[r.Image()] = r
	l.bad[r.Image()] = l.rng.IntN(3) == 0
	l.log = append(l.log, fmt.Sprintf("(%s bad=%t)", r.ID, l.bad[r.Image()]))
}

func (l *life) withdraw() {
	name := l.anySite()
	l.site.Point("stable", l.at[name][l.rng.IntN(len(l.at[name]))])
}

// stageAnything is `ashlar switch`: older and foreign releases too.
func (l *life) stageAnything() {
	l.anySite()
	if v := l.check().Verdict; v != Current && v != Waiting {
		l.stage()
	}
}

// stageCut stages with the power cut at some moment.
func (l *life) stageCut() {
	l.anySite()
	if v := l.check().Verdict; v == Current || v == Waiting {
		return
	}
	var cut *updatetest.Computer
	at := 1 + l.rng.IntN(60)
	watch := &moments{fn: func(n int) {
		if n == at {
			cut = l.c.Copy()
		}
	}}
	m := l.machine()
	l.must(m.Prepare())
	m.Store.Sealer = sealer{watch}
	l.site.Before = func(*http.Request) { watch.now() }
	f, err := m.Check(context.Background(), l.site.Open(), l.wanted())
	l.must(err)
	plan, err := m.PlanStage(context.Background(), f, watch)
	l.must(err)
	l.must(m.Stage(context.Background(), plan, watch))
	l.site.Before = nil
	if cut != nil {
		l.log = append(l.log, fmt.Sprintf("(cut at %d)", at))
		l.c = cut
		l.must(l.machine().Prepare())
		if left := l.c.Leftovers(); len(left) > 0 {
			l.t.Errorf("the next run leaves %q", left)
		}
	}
}

// goBack goes to anything that is here.
func (l *life) goBack() {
	m, s := l.machine(), l.look()
	var target *Deployment
	if n := l.rng.IntN(len(s.Deployments) + 1); n < len(s.Deployments) {
		target = &s.Deployments[n]
	}
	plan, err := m.PlanRollback(s, target)
	if err != nil {
		return
	}
	l.log = append(l.log, "(to "+plan.To+")")
	l.must(m.Rollback(plan))
	if d := l.c.WouldBoot(); d != plan.Image {
		l.t.Errorf("after the rollback to %s, %s boots next", plan.To, d.Short())
	}
}

func (l *life) pinAny() {
	s := l.look()
	d := &s.Deployments[l.rng.IntN(len(s.Deployments))]
	if !d.Remembered() {
		l.must(l.machine().SetPinned(d, !d.Pinned))
	}
}

func (l *life) editEtc() {
	text := fmt.Sprint(l.rng.Uint32())
	l.edits[l.c.Running] = text
	l.edit(l.all[l.c.Running], "local", text)
}

// reboot turns the computer off and on. What has proved good goes on being so.
func (l *life) reboot() {
	blessed := make(map[verity.Digest]bool)
	for _, e := range l.look().Entries {
		if !e.Counted() {
			blessed[e.Image] = true
		}
	}
	l.c.PowerOn(func(d verity.Digest) bool { return !l.bad[d] || blessed[d] })
	l.log = append(l.log, "("+l.all[l.c.Running].ID+" is up)")
	// What this deployment had is what it has.
	if want, had := l.edits[l.c.Running]; had && l.etc(l.all[l.c.Running], "local") != want {
		l.t.Errorf("%s lost its /etc", l.all[l.c.Running].ID)
	}
	l.edits[l.c.Running] = l.etc(l.all[l.c.Running], "local")
	if l.rng.IntN(4) > 0 { // else the power went, or another ashlar was at work
		l.must(l.machine().RecordGoodBoot())
		l.gc()
		l.afterGC()
	}
}

// invariant is DESIGN §5's, read from the disk alone.
func (l *life) invariant() {
	l.t.Helper()
	next := l.c.WouldBoot()
	if err := l.c.Whole(next); err != nil {
		l.t.Errorf("the next boot is %s, and not whole: %v", next.Short(), err)
	}
	if err := l.c.Whole(l.c.Running); err != nil {
		l.t.Errorf("what runs is not whole: %v", err)
	}
	s := l.look()
	d := s.Of(next)
	if d == nil || !slices.ContainsFunc([]Role{Running, Previous, Staged, Pinned}, d.Is) {
		// Everything being out of tries, the loader takes the newest.
		if d == nil || !d.Entry.Exhausted() {
			l.t.Errorf("the next boot is %s: %+v", next.Short(), d)
		}
	}
	if s.Next == nil || s.Next.Image != next {
		l.t.Errorf("the state says %v boots next, and the loader %s", s.Next, next.Short())
	}
	// What has an /etc of its own stays whole while it has a role.
	if p := s.With(Previous); p != nil {
		if err := l.c.Whole(p.Image); err != nil {
			l.t.Errorf("the previous one is not whole: %v", err)
		}
	}
}

// afterGC compares the store with what may be in it.
func (l *life) afterGC() {
	l.t.Helper()
	s := l.look()
	objects, images := make(map[verity.Digest]bool), 0
	for i := range s.Deployments {
		d := &s.Deployments[i]
		if d.Remembered() {
			if _, err := os.Stat(l.c.Etc(d.Image)); err == nil {
				l.t.Errorf("%s is a memory with an /etc", d.ID())
			}
			continue
		}
		role := slices.ContainsFunc([]Role{Running, Next, Previous, Staged, Pinned}, d.Is)
		forward := d.GoodBootsSeq > 0 && (d.Is(Retired) || d.Is(Failed))
		if !role && !forward && !l.needed(s, d) {
			l.t.Errorf("%s is here for no reason: %q", d.ID(), d.Roles)
		}
		images++
		for o := range l.all[d.Image].Objects {
			objects[o] = true
		}
	}
	if n := len(l.c.Images()); n != images {
		l.t.Errorf("%d images in the store for %d deployments", n, images)
	}
	if n := l.c.Objects(); n != len(objects) {
		l.t.Errorf("%d objects in the store, %d are used", n, len(objects))
	}
	if n := len(l.c.BootFiles()); n > images {
		l.t.Errorf("%d boot files for %d deployments: %q", n, images, l.c.BootFiles())
	}
}

// needed says whether another's first boot merges /etc from d.
func (l *life) needed(s *State, d *Deployment) bool {
	return slices.ContainsFunc(s.Deployments, func(o Deployment) bool { return o.EtcFrom == d.Image.String() })
}

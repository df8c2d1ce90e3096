package update

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// conduct is what a deployment does whenever it is booted.
type conduct string

const (
	good      conduct = "good"
	broken    conduct = "broken"    // ashlar-init cannot start its system
	hangs     conduct = "hangs"     // somebody, or the watchdog, restarts the machine
	crashes   conduct = "crashes"   // it is found good, and does not stay up
	unstarted conduct = "unstarted" // its default target is not reached
	sick      conduct = "sick"      // of its checks one is passed,
	better    conduct = "better"    // or two
)

// comesUp lists what goes on running when nothing ends its boot, from worst to best.
var comesUp = []conduct{unstarted, sick, better, good}

// model is a machine as far as it matters to what boots: the names on the ESP,
// the tally and the failures. It boots as the loader, ashlar-init, the units of
// the health checks and systemd-bless-boot do.
type model struct {
	t       *testing.T
	conduct []conduct // of version n+1
	entries []esp.Entry
	faults  map[verity.Digest]*history.Failure
	seq     map[verity.Digest]int64
	tally   history.Tally
	boots   int
	log     []string
}

func modelImage(n int) verity.Digest { return verity.Digest{byte(n + 1), 0xbb} }

// counters are the states in which a boot file is found at first.
var counters = map[string][2]int{"good": {esp.NoCounter, 0}, "staged": {esp.Tries, 0}, "retired": {0, 0}, "failed": {0, esp.Tries}}

func newModel(t *testing.T, conducts []conduct, states []string) *model {
	m := &model{t: t, conduct: conducts, faults: map[verity.Digest]*history.Failure{}, seq: map[verity.Digest]int64{}}
	for n := range conducts {
		version := fmt.Sprint(n + 1)
		name, err := esp.EntryName(version, modelImage(n))
		if err != nil {
			t.Fatal(err)
		}
		c := counters[states[n]]
		m.entries = append(m.entries, esp.Entry{
			Name: name, Version: version, Image: modelImage(n), SortKey: "ashlar", SortVersion: version,
		}.WithCounter(c[0], c[1]))
		if states[n] == "good" || states[n] == "retired" {
			m.seq[modelImage(n)] = int64(n + 1)
		}
	}
	return m
}

// rename changes the counter of a boot file.
func (m *model) rename(n, left, done int) { m.entries[n] = m.entries[n].WithCounter(left, done) }

// choose is the loader: the newest that has tries left or needs none, else the newest.
func (m *model) choose() int {
	best := -1
	for n, e := range m.entries {
		if best < 0 || e.Left != 0 || m.entries[best].Left == 0 {
			best = n
		}
	}
	return best
}

// outcome of a boot.
type outcome struct {
	n  int  // what was booted
	up bool // it runs until a person restarts it
}

// boot is one boot. Whatever runs after it is restarted.
func (m *model) boot() outcome {
	m.boots++
	id := fmt.Sprint(m.boots)
	n := m.choose()
	image := modelImage(n)
	e := m.entries[n]
	counted := e.Counted()
	if counted {
		m.rename(n, max(e.Left-1, 0), e.Done+1)
	}
	rearm := func() { m.rearm(n) }
	m.log = append(m.log, m.entries[n].File)
	if m.conduct[n] == broken {
		m.faults[image] = &history.Failure{Boot: id, Stage: history.Initramfs}
		rearm()
		return outcome{n, false}
	}
	if f := m.faults[image]; f != nil && f.Stage == history.Initramfs {
		delete(m.faults, image)
	}
	last := m.tally.Boot
	if m.tally.Begin(image, id, m.faults[image]) {
		if f := m.faults[image]; f == nil || f.Boot != last {
			m.faults[image] = &history.Failure{Boot: id, Stage: history.Unsteady}
		}
		rearm()
	}
	switch m.conduct[n] {
	case hangs:
		return outcome{n, false}
	case crashes:
		if m.tally.Suspect {
			return outcome{n, false} // before ashlar-steady.service was content
		}
		m.bless(n, counted)
		return outcome{n, false}
	case good:
		m.bless(n, counted)
		m.tally.EndWell()
		return outcome{n, true}
	}
	f := &history.Failure{Boot: id, Stage: history.Checking, Passed: 1}
	switch m.conduct[n] {
	case unstarted:
		f.Stage, f.Passed = history.Starting, 0
	case better:
		f.Passed = 2
	}
	m.faults[image] = f
	if !counted {
		if m.tally.Stay {
			m.tally.Unclean = 0
		}
		return outcome{n, true}
	}
	return outcome{n, m.resort(image)}
}

// rearm is what ashlar-init does to the boot files (sysroot.rearmEntry).
func (m *model) rearm(n int) {
	if !m.entries[n].Counted() {
		m.rename(n, 2, 1)
		return
	}
	other := -1
	for o, e := range m.entries {
		if !e.Exhausted() {
			return
		}
		if o != n && (other < 0 || e.Done < m.entries[other].Done) {
			other = o
		}
	}
	if other >= 0 {
		m.rename(other, 1, m.entries[other].Done)
	}
}

func (m *model) bless(n int, counted bool) {
	if counted {
		m.rename(n, esp.NoCounter, 0)
	}
	delete(m.faults, modelImage(n))
	m.tally.Suspect, m.tally.Stay = false, false
	m.seq[modelImage(n)] = int64(m.boots + 100)
}

// resort asks what shall become of the machine, and does it.
func (m *model) resort(running verity.Digest) (stay bool) {
	s := &State{Entries: slices.Clone(m.entries)}
	esp.Sort(s.Entries)
	if next, ok := esp.Next(s.Entries); ok {
		s.Next = &next
	}
	for n := range m.entries {
		d := Deployment{Entry: &m.entries[n], Fault: m.faults[modelImage(n)]}
		d.Deployment = store.Deployment{Image: modelImage(n), Name: "server", Version: fmt.Sprint(n + 1), GoodBootsSeq: m.seq[modelImage(n)]}
		s.Deployments = append(s.Deployments, d)
	}
	s.name()
	s.assignRoles(running)
	plan := s.resort(func(*Deployment) bool { return true })
	if plan.kept {
		if m.tally.Image != plan.target.Image {
			m.tally = history.Tally{Image: plan.target.Image}
		}
		m.tally.Unclean, m.tally.Stay = 0, true
	}
	for _, r := range plan.Renames {
		m.apply(r)
	}
	return plan.Stay
}

func (m *model) apply(r boot.Rename) {
	for n, e := range m.entries {
		for _, c := range [][2]int{{esp.NoCounter, 0}, {esp.Tries, 0}, {0, 0}} {
			if to := e.WithCounter(c[0], c[1]); e.File == r.From && to.File == r.To {
				m.entries[n] = to
				return
			}
		}
	}
	m.t.Fatalf("cannot rename %q to %q", r.From, r.To)
}

// Bounds of how long a machine may take until it stays with one deployment.
const (
	settling = 40 // boots
	watching = 20 // boots after that
)

// TestNoLoop lives through every machine of up to three deployments, whatever
// each of them does and however its boot file is found. What is good is found.
// Where nothing is, the machine ends with what gets furthest, and stays with it.
func TestNoLoop(t *testing.T) {
	all := []conduct{good, broken, hangs, crashes, unstarted, sick, better}
	machines, hopeless := 0, 0
	var walk func(conducts []conduct, states []string)
	walk = func(conducts []conduct, states []string) {
		if len(conducts) > 0 {
			machines++
			live(t, conducts, states)
			if !slices.Contains(conducts, good) {
				hopeless++
			}
		}
		if len(conducts) == 3 || t.Failed() {
			return
		}
		for _, c := range all {
			for state := range counters {
				walk(append(slices.Clone(conducts), c), append(slices.Clone(states), state))
			}
		}
	}
	walk(nil, nil)
	if want := 28 + 28*28 + 28*28*28; machines != want && !t.Failed() {
		t.Errorf("%d machines, want %d", machines, want)
	}
	t.Logf("%d machines, %d of them with nothing good", machines, hopeless)
}

// live boots a machine many times.
func live(t *testing.T, conducts []conduct, states []string) {
	t.Helper()
	m := newModel(t, conducts, states)
	fail := func(format string, a ...any) {
		t.Helper()
		t.Errorf("%v, found as %v: "+format+"\n%s", append(append([]any{conducts, states}, a...), strings.Join(m.log, "\n"))...)
	}
	var last outcome
	for i := range settling + watching {
		o := m.boot()
		if i > settling && o != last {
			if m.best(states) != "" {
				fail("it does not stay with one")
				return
			}
		}
		last = o
	}
	if want := m.best(states); want != "" && (!last.up || slices.Index(comesUp, m.conduct[last.n]) < slices.Index(comesUp, want)) {
		fail("it ends with %q, want %q", m.conduct[last.n], want)
	}
}

// best is the least that the machine has to end with; "" where nothing comes up.
// What is out of tries at first has had its chance.
func (m *model) best(states []string) (best conduct) {
	for n, c := range m.conduct {
		if states[n] == "failed" {
			continue
		}
		if slices.Index(comesUp, c) > slices.Index(comesUp, best) {
			best = c
		}
	}
	return best
}

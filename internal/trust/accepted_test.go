package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A battery is dead: the clock says 1970.
func TestClockInThePast(t *testing.T) {
	p := newPublisher(t)
	m := p.machine()
	p.now = today.Add(3 * day)
	old := p.release("1.0.0")
	m.Now = at(p.now)
	mustRefresh(t, m, old)

	m.Now = at(time.Unix(0, 0))
	p.now = today.Add(30 * day)
	v := mustRefresh(t, m, p.release("1.1.0")) // it updates
	if !v.Time().Equal(p.now) {
		t.Errorf("the time is %s, and the newest timestamp was signed at %s", v.Time(), p.now)
	}
	refused(t, m, old, ErrRollback, "this repository shows timestamp 1, and this machine accepted 2 before: somebody shows it the past")

	// What had expired when the machine last knew the time stays expired.
	fresh := p.machine()
	fresh.Now, fresh.Floor = at(time.Unix(0, 0)), today.Add(20*day)
	refused(t, fresh, old, ErrStale, "the timestamp of this repository expired on 2026-12-11 and this machine's clock says 2026-12-21: nothing newer was published, or somebody holds it back")
	// What expired since is noticed when the clock is right again.
	m.Now = at(today.Add(60 * day))
	refused(t, m, p.files, ErrStale, "the timestamp of this repository expired on 2027-01-07 and this machine's clock says 2027-01-30: nothing newer was published, or somebody holds it back")
}

// The time of the last check is a floor, also when it found nothing new.
func TestTimeOfTheLastCheckIsAFloor(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	m := p.machine()
	mustRefresh(t, m, files)
	m.Now = at(today.Add(5 * day))
	if v := mustRefresh(t, m, files); !v.Unchanged {
		t.Error("something is new")
	}
	m.Now = at(time.Unix(0, 0))
	if v := mustRefresh(t, m, files); !v.Time().Equal(today.Add(5 * day)) {
		t.Errorf("the time is %s", v.Time())
	}
}

// A clock far in the future: nothing is accepted, and nothing of it remembered.
func TestClockInTheFuture(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	m := p.machine()
	mustRefresh(t, m, files)
	m.Now = at(time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))
	refused(t, m, files, ErrStale, "the root of this repository expired on 2028-11-30 and this machine's clock says 2099-01-01: nothing newer was published, or somebody holds it back")
	m.Now = at(today.Add(time.Hour))
	mustRefresh(t, m, files)
}

// What was accepted is damaged in some way: the machine starts again from its
// image's root, and says so.
func TestDamage(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0")
	p.rotate(func(c *RootChange) error { return c.SetThreshold(3) })
	files := p.release("1.1.0")
	for name, damage := range map[string]func(path string) error{
		"nothing":     func(string) error { return nil },
		"emptied":     func(path string) error { return os.Truncate(path, 0) },
		"cut":         func(path string) error { return os.Truncate(path, 100) },
		"removed":     os.Remove,
		"exchanged":   func(path string) error { return os.WriteFile(path, files["2.channels.json"], 0o644) },
		"a directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) },
	} {
		for _, file := range []string{noteName, "2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json", "2.channels.json"} {
			t.Run(name+" "+file, func(t *testing.T) {
				m := p.machine()
				m.Root = p.keys.roots[1]
				mustRefresh(t, m, files)
				if err := damage(filepath.Join(m.Dir, generation(t, m), file)); err != nil {
					t.Fatal(err)
				}
				intact := name == "nothing" || name == "exchanged" && file == "2.channels.json"
				// The keys are the same under root 1, so without root 2 all is well, and forgotten.
				gone := file == "2.root.json" && (name == "removed" || name == "a directory")
				if _, err := m.Accepted(); (err == nil) != (intact || gone) {
					t.Errorf("accepted: %v", err)
				}
				if v := mustRefresh(t, m, files); v.Unchanged != intact || (v.Damage != nil) != (!intact && !gone) {
					t.Errorf("unchanged is %v, damage is %v", v.Unchanged, v.Damage)
				}
				if v := mustRefresh(t, m, files); !v.Unchanged {
					t.Error("it was not mended")
				}
				if _, err := m.Accepted(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	t.Run("link", func(t *testing.T) {
		m := p.machine()
		mustRefresh(t, m, files)
		current := filepath.Join(m.Dir, currentName)
		if err := errors.Join(os.Remove(current), os.Mkdir(current, 0o755)); err != nil {
			t.Fatal(err)
		}
		v := mustRefresh(t, m, files)
		if v.Damage == nil || v.Unchanged {
			t.Error("nothing was said")
		}
		if v := mustRefresh(t, m, files); !v.Unchanged || v.Damage != nil {
			t.Errorf("it was not mended: %v", v.Damage)
		}
	})
}

// A machine is cut at each step of accepting something: what it has then is the
// old or the new, whole, and the next check goes on and cleans up.
func TestCuts(t *testing.T) {
	p := newPublisher(t)
	one := p.release("1.0.0")
	two := p.release("1.1.0")
	for _, c := range []struct {
		step  string
		leave func(dir, before, after string) error // from a directory in which all was done
		want  string
	}{
		{"nothing", func(dir, before, after string) error {
			return errors.Join(os.RemoveAll(after), link(dir, before))
		}, "1.0.0"},
		{"a directory", func(dir, before, after string) error {
			return errors.Join(os.RemoveAll(after), os.Mkdir(after, 0o700), link(dir, before))
		}, "1.0.0"},
		{"half of the files", func(dir, before, after string) error {
			return errors.Join(os.Remove(filepath.Join(after, "timestamp.json")), os.Truncate(filepath.Join(after, "2.targets.json"), 9), link(dir, before))
		}, "1.0.0"},
		{"all files, no link", func(dir, before, after string) error { return link(dir, before) }, "1.0.0"},
		{"a link that was not renamed", func(dir, before, after string) error {
			return errors.Join(link(dir, before), os.Symlink(filepath.Base(after), filepath.Join(dir, currentName+".new")))
		}, "1.0.0"},
		{"the link, and nothing cleaned", func(dir, before, after string) error { return nil }, "1.1.0"},
	} {
		t.Run(c.step, func(t *testing.T) {
			m := p.machine()
			mustRefresh(t, m, one)
			before := filepath.Join(m.Dir, generation(t, m))
			saved := filepath.Join(t.TempDir(), "saved")
			if err := os.CopyFS(saved, os.DirFS(before)); err != nil {
				t.Fatal(err)
			}
			mustRefresh(t, m, two)
			if err := os.CopyFS(before, os.DirFS(saved)); err != nil {
				t.Fatal(err)
			}
			if err := c.leave(m.Dir, before, filepath.Join(m.Dir, generation(t, m))); err != nil {
				t.Fatal(err)
			}
			v, err := m.Accepted()
			if err != nil {
				t.Fatal(err)
			}
			if r, err := v.Channel("stable"); err != nil || r.Version != c.want {
				t.Errorf("accepted: %v, %v", r.Version, err)
			}
			if v := mustRefresh(t, m, two); v.Unchanged != (c.want == "1.1.0") || v.Damage != nil {
				t.Errorf("unchanged is %v, damage is %v", v.Unchanged, v.Damage)
			}
			three := p.publish(nil)
			mustRefresh(t, m, three)
			entries, err := os.ReadDir(m.Dir)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
			}
			if want := []string{currentName, generation(t, m), lockName}; strings.Join(names, " ") != strings.Join(want, " ") {
				t.Errorf("the directory holds %q, want %q", names, want)
			}
		})
	}
}

// link sets the link back.
func link(dir, to string) error {
	current := filepath.Join(dir, currentName)
	return errors.Join(os.Remove(current), os.Symlink(filepath.Base(to), current))
}

// Checks at once: each gets what it asked for, none fails, and the newest wins.
func TestAtOnce(t *testing.T) {
	p := newPublisher(t)
	m := p.machine()
	var states []Files
	for n := range 6 {
		states = append(states, p.release(fmt.Sprintf("1.%d.0", n)))
	}
	var group sync.WaitGroup
	for range 4 {
		for _, files := range states {
			group.Go(func() {
				if _, err := m.Refresh(ctx, files); err != nil && !errors.Is(err, ErrRollback) {
					t.Error(err)
				}
				if _, err := m.Accepted(); err != nil && !errors.Is(err, ErrNothingAccepted) {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
	v, err := m.Accepted()
	if err != nil {
		t.Fatal(err)
	}
	if r, err := v.Channel("stable"); err != nil || r.Version != "1.5.0" {
		t.Errorf("accepted: %v, %v", r.Version, err)
	}
}

// A network that fails is not a lie.
func TestUnreachable(t *testing.T) {
	p := newPublisher(t)
	files := p.release("1.0.0")
	down := errors.New("the network is down")
	m := p.machine()
	_, err := m.Refresh(ctx, failing{files, down})
	if !errors.Is(err, down) || errors.Is(err, ErrUntrusted) || errors.Is(err, ErrStale) {
		t.Error(err)
	}
}

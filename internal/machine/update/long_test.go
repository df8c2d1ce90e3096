package update

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// The long lives are others with another seed.
var (
	longSeed    = flag.Uint64("seed", 1, "of the first long life's random choices")
	longUpdates = flag.Int("updates", 70, "in each long life")
)

// TestLongLife: machines take seventy updates each, good ones and bad ones, and
// between them go back, pin, clear up, edit /etc and lose power while they stage.
// Each then has, byte for byte, what a machine has that was installed with the
// release before the last and updated once. A real one lives such a life in test/vm.
func TestLongLife(t *testing.T) {
	for seed := *longSeed; seed < *longSeed+3; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := newLife(t, seed)
			for range *longUpdates {
				l.liveOn()
				if t.Failed() {
					t.Fatalf("-seed %d: %s", seed, strings.Join(l.log, "; "))
				}
			}
			previous, last := l.settle()
			l.compare(newMachineWith(l, previous, last))
			if t.Failed() {
				t.Logf("-seed %d", seed)
			}
		})
	}
}

// liveOn publishes a release, takes it, starts it, and does something else.
func (l *life) liveOn() {
	l.t.Helper()
	l.publishServer(l.rng.IntN(4) == 0)
	l.updateFollowed()
	l.invariant()
	l.reboot()
	l.invariant()
	ops := []func(){
		l.goBack, l.goBack, l.pinAny, l.pinAny, l.unpinAll, l.editEtc, l.stageCut, l.withdraw, l.reboot, func() { l.gc() },
	}
	for range l.rng.IntN(3) {
		ops[l.rng.IntN(len(ops))]()
		l.invariant()
	}
}

func (l *life) publishServer(bad bool) *updatetest.Release {
	l.version++
	version := fmt.Sprintf("%d.0.0", l.version)
	r := l.sites["server"].Publish(updatetest.Spec{Name: "server", Version: version})
	l.at["server"] = append(l.at["server"], version)
	l.all[r.Image()], l.bad[r.Image()] = r, bad
	l.log = append(l.log, fmt.Sprintf("%s bad=%t", r.ID, bad))
	return r
}

func (l *life) unpinAll() {
	s := l.look()
	for i := range s.Deployments {
		if d := &s.Deployments[i]; d.Pinned {
			l.must(l.machine().SetPinned(d, false))
		}
	}
}

// settle takes two good releases, with nothing pinned.
func (l *life) settle() (previous, last *updatetest.Release) {
	l.t.Helper()
	for range 2 {
		l.unpinAll()
		previous, last = last, l.publishServer(false)
		l.updateFollowed()
		if got := l.boot(nil); got != last.Image() {
			l.t.Fatalf("%s runs, want %s", got.Short(), last.ID)
		}
	}
	l.roles(map[string][]Role{last.ID: {Running, Next}, previous.ID: {Previous}})
	return previous, last
}

// newMachineWith installs previous and updates to last.
func newMachineWith(l *life, previous, last *updatetest.Release) *updatetest.Computer {
	l.t.Helper()
	w := &world{t: l.t, site: l.site, c: updatetest.NewComputer(l.t)}
	w.c.Install(previous, w.origin())
	w.boot(nil)
	if text := l.etc(previous, "local"); text != "" {
		w.edit(previous, "local", text)
	}
	w.update()
	w.boot(nil)
	w.roles(map[string][]Role{last.ID: {Running, Next}, previous.ID: {Previous}})
	return w.c
}

// compare looks for what the machine has more, less or other than a fresh one.
func (l *life) compare(fresh *updatetest.Computer) {
	l.t.Helper()
	got, want := l.contents(l.c), l.contents(fresh)
	for _, name := range slices.Sorted(maps.Keys(got)) {
		switch other, ok := want[name]; {
		case !ok:
			l.t.Errorf("%s is left over", name)
		case other != got[name]:
			l.t.Errorf("%s is %q, and %q on a fresh machine", name, got[name], other)
		}
		delete(want, name)
	}
	for name := range want {
		l.t.Errorf("%s is only on a fresh machine", name)
	}
	open, err := os.ReadDir("/proc/self/fd")
	l.must(err)
	for _, e := range open {
		if path, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(path, l.c.Root) {
			l.t.Errorf("%s is still open", path)
		}
	}
}

var generation = regexp.MustCompile(`generation-[0-9]+`)

// contents lists everything below a machine's store and ESP with a digest of what is
// in it, but for what tells of its past.
func (l *life) contents(c *updatetest.Computer) map[string]string {
	l.t.Helper()
	list := make(map[string]string)
	for _, part := range []string{"sysroot/ashlar", "efi"} {
		l.must(filepath.WalkDir(filepath.Join(c.Root, part), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(c.Root, path)
			if err != nil {
				return err
			}
			name := generation.ReplaceAllString(relative, "generation")
			base := filepath.Base(path)
			switch {
			case e.IsDir():
				list[name] = "a directory"
			case e.Type() == fs.ModeSymlink:
				target, err := os.Readlink(path)
				list[name] = generation.ReplaceAllString(target, "generation")
				return err
			case base == "history" || base == "history.1" || base == "etc.json":
				// How it came to be. That they do not grow for ever is a test of history's.
			case base == "accepted.json":
				list[name] = "with the time at which it was"
			case base == "deployment.json":
				d, err := c.Store().Deployment(digestIn(path))
				if err != nil {
					return err
				}
				d.GoodBootsSeq, d.EtcFrom, d.Created = min(d.GoodBootsSeq, 1), "", ""
				b, err := d.Encode()
				list[name] = string(b)
				return err
			default:
				b, err := os.ReadFile(path)
				list[name] = fmt.Sprintf("%x", sha256.Sum256(b))
				return err
			}
			return nil
		}))
	}
	return list
}

// digestIn is the image whose deployment a file belongs to.
func digestIn(path string) verity.Digest {
	d, _ := verity.Parse(filepath.Base(filepath.Dir(path)))
	return d
}

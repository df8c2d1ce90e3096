//go:build vm && slow

package vm

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/vmtest"
)

// The long life is another one with another seed.
var (
	longSeed    = flag.Uint64("seed", 1, "of the long life's random choices")
	longUpdates = flag.Int("updates", 30, "in the long life")
)

// TestLongLife: a machine takes 30 updates, one after the other, and reboots into
// each; between them it goes back, pins, unpins and clears up at random. In the end
// it holds what a machine has that was installed with the last release, and the
// release before, and nothing else.
func TestLongLife(t *testing.T) {
	t.Parallel()
	t.Logf("seed %d (another: go test … -seed N)", *longSeed)
	m := newMachine(t, sealed, "vm")
	l := &longLife{
		machine: m, site: openSite(t, "1.0.0"), rng: rand.New(rand.NewPCG(*longSeed, 1)),
		pinned: map[string]bool{}, running: "1.0.0", began: time.Now(),
	}
	t.Cleanup(func() { os.RemoveAll(l.site.Site()) }) // gigabytes
	releases := l.build(t.Context())
	m.boot()
	l.boots++
	m.follow(l.site)
	m.sh("echo edited > /etc/motd; echo mine > /etc/local.conf; mkdir -p /var/lib/story; echo kept > /var/lib/story/file")
	for i := range *longUpdates {
		r := <-releases
		if r.err != nil {
			t.Fatal(r.err)
		}
		l.update(r.version)
		l.anything()
		l.look(i + 1)
	}
	l.end()
}

type longLife struct {
	*machine
	site    *site
	rng     *rand.Rand
	pinned  map[string]bool // versions
	freed   string          // the version that was unpinned last, until the next clean-up
	running string          // version
	before  string          // the version that ran before that
	boots   int
	began   time.Time
}

// built is a release in the site, signed by nobody yet.
type built struct {
	version string
	err     error
}

// build makes real releases, one ahead of the machine: each has other files, and a
// set of packages that takes turns with another one.
func (l *longLife) build(ctx context.Context) <-chan built {
	releases := make(chan built)
	go func() {
		defer close(releases)
		previous := "1.0.0"
		for i := range *longUpdates {
			r := built{version: fmt.Sprintf("%d.0.0", 10+i)}
			r.err = l.buildOne(ctx, r.version, previous, []string{"v2", "v1"}[i%2], i)
			previous = r.version
			select {
			case releases <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	return releases
}

// buildOne builds a release from one of the two recipes, whose packages are
// resolved once.
func (l *longLife) buildOne(ctx context.Context, version, previous, base string, i int) error {
	include, err := filepath.Rel(fx.Dir, filepath.Join(fx.Root, "test", "recipes", base+".toml"))
	if err != nil {
		return err
	}
	recipe := filepath.Join(fx.Dir, "long-"+base+".toml")
	lock := filepath.Join(fx.Dir, "long-"+base+".lock")
	text := fmt.Sprintf("include = [%q]\n\n[trust]\nroot = \"keys/root.json\"\n", include)
	text += fmt.Sprintf("\n[[files]]\npath = \"/etc/motd\"\ncontent = \"This is release %s.\\n\"\n", version)
	text += fmt.Sprintf("\n[[files]]\npath = \"/usr/share/story/data\"\ncontent = \"%s\"\n", strings.Repeat(version+" ", 20_000))
	if err := os.WriteFile(recipe, []byte(text), 0o644); err != nil {
		return err
	}
	args := []string{"build", recipe, "-o", l.site.Site(), "--set-version", version, "--lock", lock, "--cache", fx.Cache,
		"--previous", l.site.Site() + ":" + previous}
	if i < 2 { // the first of its kind: with the ids of all before
		data, err := os.ReadFile(filepath.Join(fx.Dir, "server.lock"))
		if err != nil {
			return err
		}
		if err := os.WriteFile(lock, data, 0o644); err != nil {
			return err
		}
		args = append(args, "--update-lock")
	}
	_, err = fx.Ashlar(ctx, args...)
	return err
}

// held is what a clean-up must not leave less or more of, within one boot. The ESP is
// mounted while it is used, and for two minutes after.
const held = `ls /efi >/dev/null; cut -d' ' -f5 /proc/1/mountinfo | LC_ALL=C sort; losetup --list --noheadings | wc -l; ls /sysroot/ashlar/tmp | wc -l
	find /proc/[0-9]*/fd -lname '/sysroot/*(deleted)' 2>/dev/null | wc -l`

// update publishes a release, takes it and reboots into it.
func (l *longLife) update(version string) {
	l.t.Helper()
	l.step("publish", func(ctx context.Context) error { return l.site.Sign(ctx, version, "stable") })
	before := l.sh(held)
	l.expectContains("update", l.sh("ashlar update"), "server-"+version+" is staged and boots next")
	l.freed = "" // an update clears up
	if l.rng.IntN(3) == 0 {
		l.sh("ashlar gc")
	}
	l.expect("mounts, loop devices, temporary and deleted files after the update", l.sh(held), before)
	l.moveTo(version, l.reboot)
}

// moveTo restarts into another release.
func (l *longLife) moveTo(version string, restart func()) {
	l.t.Helper()
	restart()
	l.boots++
	l.expect("release after the reboot", l.version(), version)
	l.before, l.running = l.running, version
}

// anything does what people do between updates.
func (l *longLife) anything() {
	l.t.Helper()
	switch l.rng.IntN(8) {
	case 0, 1: // back, to what ran before or to what is pinned
		versions := append([]string{l.before}, slices.Sorted(maps.Keys(l.pinned))...)
		if to := versions[l.rng.IntN(len(versions))]; to != l.running {
			l.moveTo(to, func() { l.rebootWith("ashlar rollback " + to + " --reboot") })
		}
	case 2, 3:
		if len(l.pinned) < 3 {
			l.sh("ashlar pin " + l.running)
			l.pinned[l.running] = true
		}
	case 4:
		if pinned := slices.Sorted(maps.Keys(l.pinned)); len(pinned) > 0 {
			l.sh("ashlar unpin " + pinned[0])
			delete(l.pinned, pinned[0])
			l.freed = pinned[0]
		}
	case 5:
		l.sh("ashlar gc")
		l.freed = ""
	}
}

func (l *longLife) look(update int) {
	l.t.Helper()
	s := l.status()
	var here []string
	files := 0
	for _, d := range s.Deployments {
		here = append(here, d.Version+" "+strings.Join(d.Roles, "+"))
		if len(d.Roles) == 0 && d.Version != l.freed {
			l.t.Errorf("server-%s is here for no reason", d.Version)
		}
		if !slices.Equal(d.Roles, []string{"retired"}) && !slices.Equal(d.Roles, []string{"failed"}) {
			files++
		}
	}
	l.t.Logf("update %d, boot %d, %s: %s", update, l.boots, time.Since(l.began).Round(time.Second), strings.Join(here, ", "))
	if got := l.count("/sysroot/ashlar/images"); got < files || got > len(here) {
		l.t.Errorf("%d images for %q", got, here)
	}
	if got := l.count("/efi/EFI/Linux"); got < files || got > len(here) {
		l.t.Errorf("%d boot files for %q", got, here)
	}
}

func (m *machine) count(dir string) int {
	m.t.Helper()
	n, err := strconv.Atoi(m.sh("ls -A " + dir + " | wc -l"))
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

// listings of a store, for people and programs.
const (
	objectNames = "cd /sysroot/ashlar && find objects images -type f | LC_ALL=C sort"
	others      = `cd /sysroot/ashlar && find . -mindepth 1 \( -path ./objects -o -path ./images -o -path ./var \) -prune -o -printf '%P\n' | grep -v '^deployments/[0-9a-f]*/etc/' | sed 's/generation-[0-9]*/GENERATION/; s/[0-9]*\.\(root\|channels\|snapshot\|targets\)\.json/N.\1.json/' | LC_ALL=C sort`
	sizes       = `cd /sysroot/ashlar && du -s -B1 objects images deployments trust | awk '{n+=$1} END {printf "%d ", n}'
		find . -mindepth 1 -path ./var -prune -o -print | wc -l | tr '\n' ' '; df -B1 --output=used /efi | tail -1 | tr -d '\n'; df --output=iused /sysroot | tail -1`
)

// end compares the machine with one that was installed with the last release.
func (l *longLife) end() {
	l.t.Helper()
	t, last := l.t, l.running
	for version := range l.pinned {
		l.sh("ashlar unpin " + version)
	}
	if top := fmt.Sprintf("%d.0.0", 9+*longUpdates); last != top {
		l.moveTo(top, func() { l.rebootWith("ashlar rollback " + top + " --reboot") })
		last = top
	}
	l.expectContains("gc", l.sh("ashlar gc"), "objects stay")
	l.expectContains("gc once more", l.sh("ashlar gc"), "removed 0 images and 0 objects")
	l.expectContains("verify", l.sh("ashlar verify"), "good:")
	l.expect("a file in /var", l.sh("cat /var/lib/story/file; cat /etc/local.conf"), "kept\nmine")
	l.expect("failed units", l.sh("systemctl --failed --no-legend --plain"), "")

	disk := filepath.Join(fx.Dir, t.Name(), "fresh.raw")
	l.step("a fresh disk", func(ctx context.Context) error {
		_, err := fx.Ashlar(ctx, "disk", l.site.Site()+":"+last, "-o", disk)
		return err
	})
	fresh := newMachine(t, disk, "fresh")
	fresh.boot()
	fresh.follow(l.site)
	fresh.sh("ashlar update; ashlar gc")

	t.Logf("bytes and inodes of the store without /var, bytes of the ESP, inodes of the disk:\nafter %d updates  %s\nfresh  %s",
		*longUpdates, l.sh(sizes), fresh.sh(sizes))
	l.expect("image that runs", l.status().Running, fresh.status().Running)
	l.expectStore(fresh)

	l.step("shutdown", l.Shutdown)
	l.step("checking the disk", func(ctx context.Context) error {
		return l.Inspect(ctx, func(raw string) error { return checkDisk(ctx, t, raw) })
	})
	t.Logf("%d updates and %d boots in %s", *longUpdates, l.boots, time.Since(l.began).Round(time.Second))
}

// expectStore sees that the store has what a fresh one has, and of the release
// before what that needs.
func (l *longLife) expectStore(fresh *machine) {
	l.t.Helper()
	want := map[string]bool{}
	for _, name := range lines(fresh.sh(objectNames)) {
		want[name] = true
	}
	for _, name := range l.needs(l.before) {
		want[name] = true
	}
	got := lines(l.sh(objectNames))
	for _, name := range got {
		if !want[name] {
			l.t.Errorf("%s is a leak", name)
		}
		delete(want, name)
	}
	for name := range want {
		l.t.Errorf("%s is missing", name)
	}
	l.t.Logf("%d objects and images, as they must be", len(got))

	// All else is there once for the fresh machine's deployment, and once more for
	// the one before.
	l.expectNames("in the store", others, fresh, func(name string) bool {
		return strings.HasPrefix(name, "deployments/"+l.image(l.before)) || strings.HasSuffix(name, "/etc.json") || name == "history.1"
	})
	// Both run the same image.
	etcNames := "cd /sysroot/ashlar/deployments/" + l.status().Running + "/etc && find . -mindepth 1 -printf '%P\\n' | LC_ALL=C sort"
	l.expectNames("in /etc", etcNames, fresh, func(name string) bool {
		return slices.Contains([]string{"local.conf", "motd", "motd.ashlar-new"}, name)
	})
	l.expect("boot files", strconv.Itoa(l.count("/efi/EFI/Linux")), "2")
	const esp = "cd /efi && find . -path ./EFI/Linux -prune -o -type f -print | LC_ALL=C sort"
	l.expect("the ESP, but for boot files", l.sh(esp), fresh.sh(esp))
}

// expectNames compares a listing with a fresh machine's; what is more must be known.
func (l *longLife) expectNames(what, script string, fresh *machine, known func(string) bool) {
	l.t.Helper()
	want := lines(fresh.sh(script))
	for _, name := range lines(l.sh(script)) {
		if !slices.Contains(want, name) && !known(name) {
			l.t.Errorf("%s: %s is a leak", what, name)
		}
	}
}

// image is the digest of the image of a release.
func (l *longLife) image(version string) string {
	return strings.TrimPrefix(l.needs(version)[0], "images/")
}

// needs lists the files of a store that a release in the site needs.
func (l *longLife) needs(version string) (names []string) {
	l.t.Helper()
	l.step("reading "+version, func(ctx context.Context) error {
		repo, _, err := registry.Open("oci:"+l.site.Site(), registry.Options{})
		if err != nil {
			return err
		}
		release, err := repo.ReadRelease(ctx, version)
		if err != nil {
			return err
		}
		r, err := release.OpenEROFS(ctx)
		if err != nil {
			return err
		}
		defer r.Close()
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		image, err := composefs.ReadBytes(data)
		if err != nil {
			return err
		}
		names = append(names, "images/"+release.Document.Root().Digest.String())
		for _, o := range image.Objects() {
			names = append(names, "objects/"+store.ObjectName(o.Digest))
		}
		return nil
	})
	return names
}

// checkDisk has the disk looked at by those whose file systems they are.
func checkDisk(ctx context.Context, t *testing.T, raw string) error {
	for number, check := range map[int][]string{1: {"fsck.vfat", "-n"}, 2: {"e2fsck", "-f", "-n"}} {
		start, size, err := vmtest.Partition(ctx, raw, number)
		if err != nil {
			return err
		}
		part := raw + ".part"
		_, err = program.Run(ctx, program.Command{Args: []string{"dd", "if=" + raw, "of=" + part, "bs=1M", "conv=sparse", "iflag=skip_bytes,count_bytes",
			fmt.Sprintf("skip=%d", start), fmt.Sprintf("count=%d", size)}})
		if err != nil {
			return err
		}
		out, err := program.Run(ctx, program.Command{Args: append(check, part)})
		t.Logf("%s: %s", check[0], out)
		if err := os.Remove(part); err != nil {
			return err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

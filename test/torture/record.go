package torture

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/test/fixture"
)

// versions are the releases of the story. The third is built for it alone.
var versions = []string{"1.0.0", "2.0.0", "3.0.0"}

// recorder plays the story.
type recorder struct {
	ctx  context.Context
	vm   *vmtest.VM
	fx   *fixture.Fixture
	rec  *Recording
	site *fixture.Server
	err  error // of the first step that failed; none is done after it
}

// waitUp waits until systemd has finished its start and the good boot was recorded.
const waitUp = `systemctl is-system-running --wait >/dev/null; systemctl is-system-running; systemctl --failed --no-legend --plain`

// runningVersion is the release that runs, as /usr says and not the agent.
const runningVersion = `. /usr/lib/os-release; echo "$IMAGE_VERSION"`

// Record boots the disk base, which is of release 1.0.0 and was booted once, and
// has it live through updates, first boots with merges of /etc, blesses, a
// rollback and a clean-up. Everything is kept in dir.
func Record(ctx context.Context, fx *fixture.Fixture, base, dir string) (*Recording, error) {
	if err := fx.BuildRelease(ctx, "v3"); err != nil {
		return nil, err
	}
	rec := &Recording{Base: base, Images: make(map[string]string), UKIs: make(map[string]string)}
	for _, v := range versions {
		release, err := fx.Release(ctx, v)
		if err != nil {
			return nil, err
		}
		rec.Images[v] = release.Document.Root().Digest.String()
		rec.UKIs[v] = release.Document.UKI.SHA256
	}
	fx = fx.SiteIn(filepath.Join(dir, "site"))
	if err := fx.Publish(ctx, "1.0.0"); err != nil {
		return nil, err
	}
	site, err := fx.Serve(nil)
	if err != nil {
		return nil, err
	}
	defer site.Close()
	address, err := url.Parse(site.Reference)
	if err != nil {
		return nil, err
	}
	rec.Site, rec.Port = fx.Site(), address.Port()
	vm, err := vmtest.Create(ctx, vmtest.Config{Name: "recorded", Dir: filepath.Join(dir, "recorded"), Base: base, Record: true})
	if err != nil {
		return nil, err
	}
	defer vm.Close()
	r := &recorder{ctx: ctx, vm: vm, fx: fx, rec: rec, site: site}
	if r.story(); r.err != nil {
		return nil, fmt.Errorf("recording the life of a machine: %w", r.err)
	}
	rec.Logs = vm.Recording()
	after := filepath.Join(dir, "after.raw")
	if err := vm.Snapshot(ctx, after); err != nil {
		return nil, err
	}
	if err := rec.compare(after); err != nil {
		return nil, err
	}
	if err := os.Remove(after); err != nil {
		return nil, err
	}
	return rec, rec.write(filepath.Join(dir, "recording.json"))
}

// Settings of this machine, of which the merge of /etc has to keep every byte: a file
// of its own, and a line of a file of which the next release changes another.
const (
	makeSettings = `echo mine >/etc/precious && sed -i 's/^port = 80$/port = 8080/' /etc/story.conf && sync`
	showSettings = `cat /etc/precious; grep ^port /etc/story.conf`
	settings     = "mine\nport = 8080"
)

// story is the machine's life. Phases say what holds from there on.
func (r *recorder) story() {
	r.phaseFrom(vmtest.Position{}, "boot of 1.0.0", Nothing, []string{"1.0.0"}, []string{"1.0.0"})
	r.do("turning it on", func() error { return r.vm.Start(r.ctx) })
	r.systemd()
	r.do("starting", func() error { return r.vm.WaitReady(r.ctx) })
	r.up("1.0.0")
	r.keep("first")
	r.sh(makeSettings)
	r.do("looking at the recording", func() (err error) {
		r.rec.Settings, err = r.vm.Recorded()
		return err
	})
	r.sh("ashlar switch " + r.site.Reference + ":stable")

	r.publish("2.0.0")
	r.phase("update to 2.0.0", Updating, []string{"1.0.0", "2.0.0"}, []string{"1.0.0"})
	r.sh("ashlar update")
	r.phase("2.0.0 is staged", Nothing, []string{"2.0.0"}, []string{"1.0.0", "2.0.0"})
	r.keep("staged")
	r.firstBoot("2.0.0", []string{"1.0.0", "2.0.0"})
	r.phase("2.0.0 is good", Nothing, []string{"2.0.0"}, []string{"1.0.0", "2.0.0"})
	r.keep("second")
	r.careless()

	r.phase("rollback to 1.0.0", RollingBack, []string{"1.0.0", "2.0.0"}, []string{"1.0.0", "2.0.0"})
	r.sh("ashlar rollback")
	r.phase("1.0.0 is chosen", Nothing, []string{"1.0.0"}, []string{"1.0.0", "2.0.0"})
	r.reboot(func() {})
	r.up("1.0.0")
	r.keep("back")

	r.publish("3.0.0")
	r.phase("update to 3.0.0", Updating, []string{"1.0.0", "3.0.0"}, []string{"1.0.0"})
	r.sh("ashlar update")
	r.phase("3.0.0 is staged", Nothing, []string{"3.0.0"}, []string{"1.0.0", "3.0.0"})
	r.firstBoot("3.0.0", []string{"1.0.0", "3.0.0"})
	r.phase("3.0.0 is good", Nothing, []string{"3.0.0"}, []string{"1.0.0", "3.0.0"})
	r.keep("third")
	r.phase("gc", Clearing, []string{"3.0.0"}, []string{"1.0.0", "3.0.0"})
	r.sh("ashlar gc && sync")
	r.sh("! test -e /sysroot/ashlar/images/" + r.rec.Images["2.0.0"]) // or the clean-up had nothing to do
	r.phase("2.0.0 is gone", Nothing, []string{"3.0.0"}, []string{"1.0.0", "3.0.0"})
	r.do("turning it off", func() error { return r.vm.Shutdown(r.ctx) })
}

// firstBoot restarts into what was staged, and sees that it comes up well.
func (r *recorder) firstBoot(version string, boots []string) {
	whole := []string{"1.0.0", version}
	r.reboot(func() {
		start := vmtest.Position{Log: len(r.vm.Recording()) - 1}
		r.phaseFrom(start, "first boot of "+version, FirstBoot, boots, whole)
		r.phase("start of "+version, Nothing, boots, whole)
	})
	r.phase(version+" is found good", Blessing, boots, whole)
	r.up(version)
	has := r.sh(showSettings)
	r.do("the merge", func() error {
		if has != settings {
			return fmt.Errorf("/etc has %q, want %q", has, settings)
		}
		return nil
	})
}

func (r *recorder) do(what string, fn func() error) {
	if r.err != nil {
		return
	}
	if err := fn(); err != nil {
		r.err = fmt.Errorf("%s: %w", what, err)
	}
}

func (r *recorder) sh(script string) string {
	var out string
	r.do(script, func() (err error) {
		out, err = r.vm.Output(r.ctx, script)
		return err
	})
	return out
}

// reboot restarts the guest and waits until commands can be run in it; when
// systemd begins, began is called.
func (r *recorder) reboot(began func()) {
	up := make(chan error, 1)
	r.do("rebooting", func() error {
		go func() { up <- r.vm.Reboot(r.ctx) }()
		return nil
	})
	r.systemd()
	r.do("rebooting", func() error {
		began()
		return nil
	})
	r.do("rebooting", func() error { return <-up })
}

// systemd waits for what ashlar-init says last: with it, loader, kernel and
// initramfs are through.
func (r *recorder) systemd() {
	r.do("waiting for systemd", func() error {
		_, err := r.vm.WaitConsole(r.ctx, `ashlar-init: .*starting systemd`)
		return err
	})
}

// up waits for the end of a good boot.
func (r *recorder) up(version string) {
	state := r.sh(waitUp)
	running := r.sh(runningVersion)
	r.do("boot", func() error {
		if state != "running" || running != version {
			return fmt.Errorf("release %s is %s, want %s running", running, state, version)
		}
		return nil
	})
}

func (r *recorder) publish(version string) {
	r.do("publishing", func() error { return r.fx.Publish(r.ctx, version) })
}

// phase begins a phase now.
func (r *recorder) phase(name, doing string, boots, whole []string) {
	r.do(name, func() error {
		at, err := r.vm.Recorded()
		r.phaseFrom(at, name, doing, boots, whole)
		return err
	})
}

func (r *recorder) phaseFrom(at vmtest.Position, name, doing string, boots, whole []string) {
	r.rec.Phases = append(r.rec.Phases, Phase{Name: name, Doing: doing, From: at, Boots: boots, Whole: whole})
}

// keep writes a file to /var and flushes it and its name.
func (r *recorder) keep(name string) {
	r.sh(fmt.Sprintf("mkdir -p /var/lib/torture && cd /var/lib/torture && echo 'kept %s' >%s && sync %s . .. /var", name, name, name))
	r.do("looking at the recording", func() error {
		at, err := r.vm.Recorded()
		r.rec.Promises = append(r.rec.Promises, Promise{From: at, Path: "lib/torture/" + name, Content: "kept " + name + "\n"})
		return err
	})
}

// careless writes a file as a program does that does not flush, and then has
// something else flushed, on the ESP, so that there is a cut between.
func (r *recorder) careless() {
	r.sh("echo careless >/var/lib/torture/careless && touch /efi/loader/loader.conf && sync /efi/loader/loader.conf")
	r.do("looking at the recording", func() error {
		at, err := r.vm.Recorded()
		r.rec.Careless = Promise{From: at, Path: "lib/torture/careless", Content: "careless\n"}
		return err
	})
}

package torture

import (
	"context"
	"fmt"
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

// story is the machine's life. Phases say what holds from there on.
func (r *recorder) story() {
	r.do("turning it on", func() error { return r.vm.Start(r.ctx) })
	r.phase("boot of 1.0.0", []string{"1.0.0"}, []string{"1.0.0"})
	r.up("1.0.0")
	r.keep("first")
	r.sh("echo mine >/etc/precious && sync /etc/precious /etc")
	r.sh("ashlar switch " + r.site.Reference + ":stable")

	r.publish("2.0.0")
	r.phase("update to 2.0.0", []string{"1.0.0", "2.0.0"}, []string{"1.0.0"})
	r.sh("ashlar update")
	r.phase("2.0.0 is staged", []string{"2.0.0"}, []string{"1.0.0", "2.0.0"})
	r.keep("staged")
	r.phase("first boot of 2.0.0", []string{"1.0.0", "2.0.0"}, []string{"1.0.0", "2.0.0"})
	r.reboot("systemctl --no-block reboot")
	r.up("2.0.0")
	r.phase("2.0.0 is good", []string{"2.0.0"}, []string{"1.0.0", "2.0.0"})
	r.keep("second")
	r.careless()

	r.phase("rollback to 1.0.0", []string{"1.0.0", "2.0.0"}, []string{"1.0.0", "2.0.0"})
	r.sh("ashlar rollback")
	r.phase("1.0.0 is chosen", []string{"1.0.0"}, []string{"1.0.0", "2.0.0"})
	r.reboot("systemctl --no-block reboot")
	r.up("1.0.0")
	r.keep("back")

	r.publish("3.0.0")
	r.phase("update to 3.0.0", []string{"1.0.0", "3.0.0"}, []string{"1.0.0"})
	r.sh("ashlar update")
	r.phase("first boot of 3.0.0", []string{"1.0.0", "3.0.0"}, []string{"1.0.0", "3.0.0"})
	r.reboot("systemctl --no-block reboot")
	r.up("3.0.0")
	r.phase("3.0.0 is good", []string{"3.0.0"}, []string{"1.0.0", "3.0.0"})
	r.sh("ashlar gc")
	r.keep("third")
	r.sh("! test -e /sysroot/ashlar/images/" + r.rec.Images["2.0.0"]) // or the clean-up had nothing to do
	r.do("turning it off", func() error { return r.vm.Shutdown(r.ctx) })
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

func (r *recorder) reboot(script string) {
	r.do("rebooting", func() error { return r.vm.RebootWith(r.ctx, script) })
}

// up waits for the end of a good boot.
func (r *recorder) up(version string) {
	r.do("starting", func() error { return r.vm.WaitReady(r.ctx) })
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
func (r *recorder) phase(name string, boots, whole []string) {
	r.do(name, func() error {
		at, err := r.vm.Recorded()
		r.rec.Phases = append(r.rec.Phases, Phase{Name: name, From: at, Boots: boots, Whole: whole})
		return err
	})
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

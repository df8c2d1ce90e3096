// Command demo shows the main job end to end: a recipe becomes a sealed system,
// boots in a virtual machine, updates itself over the network, and goes back.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/test/fixture"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// story prints what happens, and runs it.
type story struct {
	*fixture.Fixture
	ctx   context.Context
	vm    *vmtest.VM
	began time.Time
	log   *os.File
}

func run(ctx context.Context) error {
	root, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	fx, err := fixture.New(root, "demo", nil)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(fx.Dir, "build.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	fx.Log = log
	s := &story{Fixture: fx, ctx: ctx, began: time.Now(), log: log}
	fmt.Printf("What the builds say is in %s.\n", log.Name())
	defer func() {
		if s.vm != nil {
			s.vm.Close()
		}
	}()
	for _, chapter := range []func() error{s.build, s.boot, s.update, s.rollback} {
		if err := chapter(); err != nil {
			return fmt.Errorf("%w (see %s)", err, fx.Dir)
		}
	}
	fmt.Printf("\nDone in %s.\n", time.Since(s.began).Round(time.Second))
	return nil
}

// chapter prints a heading with the time since the start.
func (s *story) chapter(title string) {
	fmt.Printf("\n[%s] %s\n", time.Since(s.began).Round(time.Second), title)
}

// say prints lines of output, indented.
func say(text string) {
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		fmt.Println("    " + line)
	}
}

// ashlar runs the command here and prints what it answers.
func (s *story) ashlar(args ...string) error {
	fmt.Println("  $ ashlar " + strings.Join(s.short(args), " "))
	out, err := s.Ashlar(s.ctx, args...)
	say(out)
	return err
}

// short shows paths below the work directory without it.
func (s *story) short(args []string) []string {
	var list []string
	for _, a := range args {
		a = strings.ReplaceAll(a, s.Dir+"/", "")
		list = append(list, strings.TrimPrefix(a, s.Root+"/"))
	}
	return list
}

// guest runs a script in the machine and prints it with what it answers, also
// where the point is that it fails.
func (s *story) guest(script string) error {
	fmt.Println("  # " + script)
	r, err := s.vm.Run(s.ctx, script)
	if err != nil {
		return err
	}
	say(r.Stdout + r.Stderr)
	return nil
}

func (s *story) build() error {
	s.chapter("Two recipes become two releases: real Debian 13 packages, locked and sealed, with the root of the publisher's new keys inside.")
	lock, cache := filepath.Join(s.Dir, "server.lock"), s.Cache
	for _, name := range []string{"v1", "v2"} {
		recipe, err := s.Recipe(s.ctx, name)
		if err != nil {
			return err
		}
		err = s.ashlar("build", recipe, "-o", s.Out(), "--lock", lock, "--cache", cache, "--update-lock")
		if err != nil {
			return err
		}
	}
	s.chapter("The first release becomes a bootable disk, without root and without loop devices.")
	return s.ashlar("disk", s.Out()+":1.0.0", "-o", s.Disk())
}

func (s *story) boot() (err error) {
	s.chapter("A virtual machine boots it: firmware, loader, boot file, sealed root. The first boot seals every object.")
	s.vm, err = vmtest.Create(s.ctx, vmtest.Config{Name: "demo", Dir: filepath.Join(s.Dir, "vm"), Base: s.Disk()})
	if err != nil {
		return err
	}
	if err := s.vm.Boot(s.ctx); err != nil {
		return err
	}
	return s.guests(
		"systemctl is-system-running --wait",
		"findmnt -no FSTYPE,OPTIONS /",
		"touch /usr/bin/intruder; mount -o remount,rw /",
		"ashlar status",
	)
}

func (s *story) update() error {
	s.chapter("Releases are signed and published, because the machine takes nothing that these keys did not sign. " +
		"Edited meanwhile, it fetches only what changed and boots it.")
	if err := s.publish("1.0.0"); err != nil {
		return err
	}
	server, err := s.Serve(nil)
	if err != nil {
		return err
	}
	defer server.Close()
	if err := s.guests("ashlar switch "+server.Reference+":stable", "sed -i 's/^port = 80$/port = 8080/' /etc/story.conf && ashlar etc diff"); err != nil {
		return err
	}
	if err := s.publish("2.0.0"); err != nil {
		return err
	}
	if err := s.ashlar("trust", "show", "oci:"+s.Site(), "--root", filepath.Join(s.KeysDir(), "root.json")); err != nil {
		return err
	}
	server.ResetStats()
	if err := s.guests("ashlar update", "ashlar status"); err != nil {
		return err
	}
	stats := server.Stats()
	fmt.Printf("  the server counted %d requests, %.1f MB\n", stats.Requests, float64(stats.Bytes)/1e6)
	if err := s.vm.Reboot(s.ctx); err != nil {
		return err
	}
	return s.guests(
		"systemctl is-system-running --wait",
		"cat /etc/motd && grep -E '^(color|port)' /etc/story.conf && getent passwd story",
		"ashlar status",
	)
}

// publish signs a release and moves the channel to it.
func (s *story) publish(version string) error {
	return s.ashlar("publish", s.Out()+":"+version, "oci:"+s.Site(), "--channel", "stable", "--keys", s.KeysDir())
}

func (s *story) rollback() error {
	s.chapter("It goes back, entirely: the old system with its own /etc.")
	fmt.Println("  # ashlar rollback --reboot")
	if err := s.vm.RebootWith(s.ctx, "ashlar rollback --reboot"); err != nil {
		return err
	}
	return s.guests(
		"systemctl is-system-running --wait",
		"cat /etc/motd && grep -E '^(color|port)' /etc/story.conf",
		"ashlar status",
		"ashlar verify",
	)
}

func (s *story) guests(scripts ...string) error {
	for _, script := range scripts {
		if err := s.guest(script); err != nil {
			return err
		}
	}
	return nil
}

package cli

import (
	"os"
	"path/filepath"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/loader"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// scene is a machine about to run a verb.
type scene struct {
	before  []*updatetest.Release // that may boot next until it is done, besides what does already
	after   *updatetest.Release   // that boots next when it is done
	args    []string
	minimum int                 // of changes to directories
	copies  map[string][]string // of the loader on the ESP: what each may be, at every cut
}

// scenes are the verbs that change what a machine boots, each where it has the
// most to do. prepare brings a machine that runs server-1.0.0 there.
var scenes = map[string]func(f *fakeMachine, v1 *updatetest.Release) scene{
	"update": func(f *fakeMachine, v1 *updatetest.Release) scene {
		f.publish("2.0.0")
		f.ok("staged", "update")
		f.boot(nil)
		return scene{after: f.publish("3.0.0"), args: []string{"update"}, minimum: 15}
	},
	"update that supersedes": func(f *fakeMachine, v1 *updatetest.Release) scene {
		f.publish("2.0.0")
		f.ok("staged", "update")
		return scene{after: f.publish("3.0.0"), args: []string{"update"}, before: []*updatetest.Release{v1}, minimum: 15}
	},
	"retry": func(f *fakeMachine, v1 *updatetest.Release) scene {
		v2 := f.publish("2.0.0")
		f.ok("staged", "update")
		f.boot(func(d verity.Digest) bool { return d != v2.Image() })
		return scene{after: v2, args: []string{"update", "--retry"}, minimum: 15}
	},
	"switch to what sorts behind": func(f *fakeMachine, v1 *updatetest.Release) scene {
		f.publish("2.0.0")
		f.ok("staged", "update")
		f.boot(nil)
		other := updatetest.NewSite(f.t)
		web := other.Publish(updatetest.Spec{Name: "web", Version: "0.1.0"})
		return scene{after: web, before: []*updatetest.Release{v1}, args: []string{"switch", other.Repository + ":stable"}, minimum: 15}
	},
	"switch to the previous one": func(f *fakeMachine, v1 *updatetest.Release) scene {
		f.publish("2.0.0")
		f.ok("staged", "update")
		f.boot(nil)
		return scene{after: v1, args: []string{"switch", f.site.Repository + ":1.0.0"}, minimum: 6}
	},
	"rollback": func(f *fakeMachine, v1 *updatetest.Release) scene {
		v2 := f.publish("2.0.0")
		f.ok("staged", "update")
		f.boot(nil)
		f.publish("3.0.0")
		f.ok("staged", "update")
		return scene{after: v1, before: []*updatetest.Release{v2}, args: []string{"rollback"}, minimum: 3}
	},
	"clearing away": func(f *fakeMachine, v1 *updatetest.Release) scene {
		f.publish("2.0.0")
		f.ok("staged", "update")
		f.boot(nil)
		v3 := f.publish("3.0.0")
		f.ok("staged", "update")
		f.c.PowerOn(nil)
		return scene{after: v3, args: []string{"boot-record"}, minimum: 10}
	},
	"clearing a failure away": func(f *fakeMachine, v1 *updatetest.Release) scene {
		v2 := f.publish("2.0.0")
		f.ok("staged", "update")
		f.c.PowerOn(func(d verity.Digest) bool { return d != v2.Image() })
		return scene{after: v1, args: []string{"boot-record"}, minimum: 10}
	},
	"a loader to try": func(f *fakeMachine, v1 *updatetest.Release) scene {
		f.loaders(oldLoader, oldLoader, newLoader)
		return scene{after: v1, args: []string{"boot-record"}, minimum: 3, copies: map[string][]string{
			loader.Fallback: {oldLoader}, loader.Entered: {oldLoader, newLoader},
		}}
	},
	"a loader that follows": func(f *fakeMachine, v1 *updatetest.Release) scene {
		f.loaders(newLoader, oldLoader, newLoader)
		return scene{after: v1, args: []string{"boot-record"}, minimum: 2, copies: map[string][]string{
			loader.Entered: {newLoader}, loader.Fallback: {oldLoader, newLoader},
		}}
	},
}

const (
	oldLoader = "the one #### LoaderInfo: systemd-boot 257.13-1 ####"
	newLoader = "the other #### LoaderInfo: systemd-boot 258.2-1 ####"
)

// loaders gives the machine two copies of a loader, of which the one that is not
// the image's started it, else the one that an entry names, and the image's.
func (f *fakeMachine) loaders(entered, fallback, image string) {
	f.t.Helper()
	f.write("efi/"+loader.Entered, entered)
	f.write("efi/"+loader.Fallback, fallback)
	f.write("usr/lib/systemd/boot/efi/systemd-bootx64.efi", image)
	started := loader.Fallback
	if entered == image {
		started = loader.Entered
	}
	const id = "abcdef01-2345-6789-abcd-ef0123456789"
	f.variable("LoaderImageIdentifier", "/"+started)
	f.variable("LoaderDevicePartUUID", id)
	disk := "sys/devices/vda/"
	for name, text := range map[string]string{"queue/logical_block_size": "512", "vda1/partition": "1", "vda1/start": "2048", "vda1/size": "2097152"} {
		f.write(disk+name, text)
	}
	for name, target := range map[string]string{"sys/class/block/vda1": "../../devices/vda/vda1", "dev/disk/by-partuuid/" + id: "../../vda1"} {
		path := filepath.Join(f.c.Root, name)
		must(f.t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(f.t, os.Symlink(target, path))
	}
}

// variable sets one of the loader's variables.
func (f *fakeMachine) variable(name, text string) {
	f.t.Helper()
	b := []byte{6, 0, 0, 0}
	for _, r := range text + "\x00" {
		b = append(b, byte(r), 0)
	}
	f.write("sys/firmware/efi/efivars/"+name+"-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", string(b))
}

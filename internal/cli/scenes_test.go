package cli

import (
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// scene is a machine about to run a verb.
type scene struct {
	before  []*updatetest.Release // that may boot next until it is done, besides what does already
	after   *updatetest.Release   // that boots next when it is done
	args    []string
	minimum int // of changes to directories
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
}

package sysroot

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/ashlar-os/ashlar/internal/machine/history"
)

// suspectFile is there in boots of a deployment that did not stay up before:
// ashlar-steady.service makes it stay up before it is found good.
const suspectFile = "/run/ashlar/suspect"

// begin notes that the system of this deployment is started. When its last
// boots ended badly, the loader counts from the next one on.
//
// All of it is best effort. A disk that is full keeps a machine from noticing
// that it crashes too often, and must not keep it from booting.
func (b *boot) begin() {
	boot := history.BootID("/")
	dir := b.store.DeploymentPath(b.params.image)
	failure := history.ReadFailure(dir)
	if failure != nil && failure.Stage == history.Initramfs {
		_ = history.ForgetFailure(dir) // of an earlier try; this one came further
	}
	tally := history.ReadTally(b.store.Dir)
	last := tally.Boot
	if tally.Begin(b.params.image, boot, failure) {
		reason := fmt.Sprintf("its system did not stay up: %d boots in a row were not found good, or ended within ten minutes and not in order", history.MaxUnclean)
		if failure == nil || failure.Boot != last {
			// Else a check has said more about the last of them.
			_ = history.WriteFailure(dir, history.Failure{Boot: boot, ID: b.id(), Stage: history.Unsteady, Reason: reason})
		}
		if err := b.rearm(); err != nil {
			say(levelInfo, "its boots are not counted again: "+err.Error())
		} else {
			b.tell(history.CountedAgain, reason)
		}
	}
	if tally.Suspect {
		err := os.MkdirAll(filepath.Dir(suspectFile), 0o755)
		if err == nil {
			err = os.WriteFile(suspectFile, nil, 0o644)
		}
		if err != nil {
			say(levelInfo, err.Error())
		}
	}
	if err := tally.Write(b.store.Dir); err != nil {
		say(levelInfo, err.Error())
	}
	b.tell(history.Booted, "")
}

// tell adds to the machine's history.
func (b *boot) tell(kind history.Kind, why string) {
	by := history.ByInit
	if kind == history.Booted {
		by = history.ByLoader // whose choice it was
	}
	if err := history.Rotate(b.store.Dir); err != nil {
		say(levelDebug, err.Error())
	}
	err := history.Append(b.store.Dir, history.Event{Kind: kind, Image: b.params.image, ID: b.id(), By: by, Why: why})
	if err != nil {
		say(levelDebug, err.Error())
	}
}

// id is what people call this deployment.
func (b *boot) id() string {
	d, err := b.store.Deployment(b.params.image)
	if err != nil {
		return b.params.image.Short()
	}
	return d.Name + "-" + d.Version
}

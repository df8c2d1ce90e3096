package sysroot

import (
	"os"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// A boot that gets as far as its system is counted and told; what an earlier try
// left in the initramfs is over, what its checks left is not.
func TestBegin(t *testing.T) {
	st, err := store.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d := verity.Digest{1}
	dir := st.DeploymentPath(d)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b := &boot{store: st, params: parameters{image: d}}
	for n, stage := range []history.Stage{history.Initramfs, history.Checking, history.Unsteady} {
		if err := history.WriteFailure(dir, history.Failure{Stage: stage, Boot: "earlier", Reason: "x"}); err != nil {
			t.Fatal(err)
		}
		b.begin()
		if f := history.ReadFailure(dir); (f == nil) != (stage == history.Initramfs) {
			t.Errorf("after a failure in %q: %+v", stage, f)
		}
		if tally := history.ReadTally(st.Dir); tally.Image != d || tally.Unclean != n+1 || tally.Suspect || tally.Boot == "" {
			t.Errorf("boot %d: %+v", n+1, tally)
		}
	}
	b.noteFailure(os.ErrInvalid)
	if f := history.ReadFailure(dir); f.Stage != history.Initramfs || f.Reason != os.ErrInvalid.Error() || f.Boot == "" {
		t.Errorf("noted: %+v", f)
	}
	events, err := history.Read(st.Dir)
	if err != nil || len(events) != 4 || events[0].Kind != history.Booted || events[0].By != history.ByLoader || events[3].Kind != history.Failed || events[3].By != history.ByInit {
		t.Errorf("told: %+v, %v", events, err)
	}
	// On a store that cannot be written the machine boots all the same.
	if err := os.RemoveAll(st.Dir); err != nil {
		t.Fatal(err)
	}
	b.begin()
}

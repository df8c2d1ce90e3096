package update

import (
	"context"
	"fmt"
	"runtime"

	"github.com/ashlar-os/ashlar/internal/registry"
)

// Verdict is what a channel's release is to a machine.
type Verdict string

// The verdicts. Only Available is staged without being asked by name.
const (
	Available Verdict = "available" // newer than what runs, and not here yet
	Current   Verdict = "current"   // it runs
	Waiting   Verdict = "staged"    // it is here and boots next
	WasBack   Verdict = "retired"   // it was here, and the administrator went back from it
	HasFailed Verdict = "failed"    // it was here, and did not come up
	TooOld    Verdict = "older"     // older than what runs
	TooFar    Verdict = "too-far"   // what runs is older than it can be reached from
	Foreign   Verdict = "foreign"   // of another image
	NoFit     Verdict = "no-fit"    // for another architecture; never staged
)

// Finding is the answer of a check.
type Finding struct {
	Release *registry.Release
	Verdict Verdict
	Reason  string // a sentence for people; empty for Available
}

// Check asks a repository what its channel names, and compares.
func (m *Machine) Check(ctx context.Context, repo *registry.Repository, channel string) (*Finding, error) {
	rel, err := repo.ReadRelease(ctx, channel)
	if err != nil {
		return nil, fmt.Errorf("cannot check %s for updates: %w", repo.Name, err)
	}
	state, err := m.Look()
	if err != nil {
		return nil, err
	}
	if doc := rel.Document; doc.Architecture != m.arch() {
		return &Finding{rel, NoFit, fmt.Sprintf("%s is for %q, this machine takes %q", doc.ID, doc.Architecture, m.arch())}, nil
	}
	verdict, reason := state.judge(rel)
	return &Finding{Release: rel, Verdict: verdict, Reason: reason}, nil
}

func (m *Machine) arch() string {
	if m.Arch != "" {
		return m.Arch
	}
	return runtime.GOARCH
}

func (s *State) judge(rel *registry.Release) (Verdict, string) {
	doc := rel.Document
	if d := s.Of(doc.Root().Digest); d != nil {
		switch {
		case d.Is(Running):
			return Current, fmt.Sprintf("%s is running", doc.ID)
		case d.Is(Failed):
			return HasFailed, fmt.Sprintf("%s did not come up here in %d tries; ashlar update --retry tries it again", doc.ID, d.tries())
		case d.Is(Retired) && d.Remembered():
			return WasBack, fmt.Sprintf("this machine was rolled back from %s; ashlar update --retry stages it again", doc.ID)
		case d.Is(Retired):
			return WasBack, fmt.Sprintf("this machine was rolled back from %s; ashlar rollback %s goes forward again", doc.ID, doc.Version)
		case d.Is(Next):
			return Waiting, fmt.Sprintf("%s is staged and boots next", doc.ID)
		}
	}
	base := s.Leading()
	if base == nil {
		return Available, ""
	}
	does := "runs"
	if !base.Is(Running) {
		does = "boots next"
	}
	switch {
	case doc.Name != base.Name:
		return Foreign, fmt.Sprintf("the channel holds image %q, and %q %s here; ashlar switch changes images", doc.Name, base.Name, does)
	case newer(base.Version, doc.Version):
		return TooOld, fmt.Sprintf("the channel holds %s, older than %s that %s; ashlar switch takes it all the same", doc.Version, base.Version, does)
	case doc.ReachableFrom != "" && newer(doc.ReachableFrom, base.Version):
		return TooFar, fmt.Sprintf("%s can be reached from %s or newer, and %s %s here; update to a release between them first",
			doc.ID, doc.ReachableFrom, base.Version, does)
	}
	return Available, ""
}

package update

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// Verdict is what a release is to a machine, or why that could not be told.
type Verdict string

// The verdicts on a release. Only Available is staged without being asked by name.
const (
	Available Verdict = "available" // newer than what runs, and not here yet
	Current   Verdict = "current"   // it runs
	Waiting   Verdict = "staged"    // it is here and boots next
	WasBack   Verdict = "retired"   // it was here, and the administrator went back from it
	HasFailed Verdict = "failed"    // it was here, and did not come up
	TooOld    Verdict = "older"     // older than what runs
	TooFar    Verdict = "too-far"   // what runs is older than it can be reached from
	Withdrawn Verdict = "withdrawn" // its publisher took it back; never staged
)

// The verdicts on a repository that cannot say what its release is.
const (
	Unreachable Verdict = "unreachable" // it could not be asked
	Stale       Verdict = "stale"       // its signatures are past their time
	Untrusted   Verdict = "untrusted"   // it is not signed as it must be, or shows the past, or answers wrongly
)

// VerdictOn sorts the errors of a check; empty for all others.
func VerdictOn(err error) Verdict {
	switch {
	case errors.Is(err, registry.ErrUnreachable):
		return Unreachable
	case errors.Is(err, trust.ErrStale):
		return Stale
	case errors.Is(err, trust.ErrUntrusted):
		return Untrusted
	}
	return ""
}

// Finding is the answer of a check: a release that the publisher signed.
type Finding struct {
	ID      string // NAME-VERSION
	Release trust.Release
	Origin  store.Origin
	Verdict Verdict
	Reason  string // a sentence for people; empty for Available

	Recalled *Recall     // what runs was withdrawn; nil: it was not
	Unstaged string      // the ID of what Unwanted was, once it does not boot next any more
	Unwanted *Deployment // it would boot next, never did, and was withdrawn; nil: there is none

	// Forgot says why nothing older than this was known, although something had
	// been accepted before: that was damaged. Empty where it was not.
	Forgot string

	image trust.Target
	repo  *registry.Repository // nil: src is here from the start
	src   Source               // nil until it is needed
	why   string               // the finding, for the history
}

// Wanted is which release a check is about.
type Wanted struct {
	store.Origin        // the repository, and the channel that names it
	Version      string // not what the channel names, but this one

	// Switch looks at a repository that the machine does not follow, of this
	// image or another. Root, when given, is its publisher's, on the word of who
	// runs the machine; otherwise it must be signed by who signs what runs.
	Switch bool
	Root   []byte
}

// Check asks a repository what it has, believes only what is signed, and
// compares. It takes no lock; what it accepts is remembered, so that nothing
// older is believed later. Where nothing is new it is one request.
func (m *Machine) Check(ctx context.Context, repo *registry.Repository, w Wanted) (*Finding, error) {
	f, err := m.check(ctx, repo, w)
	switch VerdictOn(err) {
	case Unreachable:
		return nil, fmt.Errorf("cannot reach the repository: %w", err)
	case Stale:
		return nil, fmt.Errorf("cannot update from %s: %w", repo.Name, err)
	case Untrusted:
		return nil, fmt.Errorf("cannot trust %s: %w", repo.Name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot check %s for updates: %w", repo.Name, err)
	}
	return f, nil
}

func (m *Machine) check(ctx context.Context, repo *registry.Repository, w Wanted) (*Finding, error) {
	state, err := m.Look()
	if err != nil {
		return nil, err
	}
	view, err := m.refresh(ctx, repo, state.Leading(), &w)
	if err != nil {
		return nil, err
	}
	f := &Finding{
		Origin: w.Origin, image: view.Image(), repo: repo,
		why: fmt.Sprintf("%s of %s names it", w.Channel, w.Repository),
	}
	switch tag := w.Channel; {
	case w.Version != "":
		f.Release, err = view.Release(w.Version)
	case tag != "" && '0' <= tag[0] && tag[0] <= '9': // as a version's tag does, and no channel
		f.Release, err = view.Release(strings.ReplaceAll(tag, "_", "~"))
	default:
		f.Release, err = view.Channel(tag)
	}
	if err != nil {
		return nil, err
	}
	f.ID = f.image.Name + "-" + f.Release.Version
	if view.Damage != nil {
		f.Forgot = view.Damage.Error()
	}
	f.Recalled, f.Unwanted = state.recalled(view), state.unwanted(view)
	return f, m.Judge(ctx, f)
}

// refresh brings the machine's knowledge of a repository up to date.
func (m *Machine) refresh(ctx context.Context, repo *registry.Repository, base *Deployment, w *Wanted) (*trust.View, error) {
	root, name := w.Root, ""
	switch {
	case root != nil:
		w.Publisher = publisherOf(root)
	case base == nil:
		return nil, ErrNoRoot
	default:
		w.Publisher = base.Origin.Publisher
		var err error
		if root, err = m.rootOf(base); err != nil {
			return nil, err
		}
	}
	said, err := readStatements(ctx, repo)
	if err != nil {
		return nil, err
	}
	if base != nil {
		name = base.Name
	}
	if w.Switch {
		name = said.imageName(ctx, m.arch(), name)
	}
	return m.client(name, w.Origin, root, base).Refresh(ctx, said)
}

func (m *Machine) arch() string {
	if m.Arch != "" {
		return m.Arch
	}
	return runtime.GOARCH
}

// Judge says anew what a finding is to the machine as it is now. The release
// document is fetched only where what is signed and what is here do not tell.
func (m *Machine) Judge(ctx context.Context, f *Finding) error {
	state, err := m.Look()
	if err != nil {
		return err
	}
	var decided bool
	if f.Verdict, f.Reason, decided = state.judge(f); decided {
		return nil
	}
	doc, err := f.document(ctx)
	if err != nil {
		return err
	}
	f.Verdict, f.Reason = state.judgeDocument(doc)
	return nil
}

// document fetches the release, which has to be the one that is signed.
func (f *Finding) document(ctx context.Context) (*release.Document, error) {
	if f.src == nil {
		rel, err := f.repo.ReadReleaseArtifact(ctx, f.Release.Artifact.String())
		if err != nil {
			return nil, answered(ctx, err)
		}
		src := FromRegistry(rel)
		if err := f.mustBeSigned(src.Document()); err != nil {
			return nil, &wrongAnswer{err}
		}
		f.src = src
	}
	return f.src.Document().Document, nil
}

// mustBeSigned refuses a document that is not the one that is signed, or is of
// something else than what it is signed as.
func (f *Finding) mustBeSigned(doc Document) error {
	signed := f.Release
	switch {
	case doc.Digest != signed.DocumentDigest.String() || int64(len(doc.Bytes)) != signed.Length:
		return fmt.Errorf("the document of %s is %s, and the one that is signed is %s", f.ID, doc.Digest, signed.DocumentDigest)
	case doc.Name != f.image.Name || doc.Architecture != f.image.Architecture || doc.Version != signed.Version:
		return fmt.Errorf("what is signed as %s for %s is the document of %s for %s", f.ID, f.image.Architecture, doc.ID, doc.Architecture)
	}
	return nil
}

// judge compares what is signed with what is here; false where the document
// has to be read to tell.
func (s *State) judge(f *Finding) (Verdict, string, bool) {
	d := s.ofRelease(f.Release.DocumentDigest.String())
	if d != nil && d.Is(Running) {
		return Current, fmt.Sprintf("%s is running", f.ID), true
	}
	if w := f.Release.Withdrawn; w != nil {
		return Withdrawn, fmt.Sprintf("%s was withdrawn by its publisher: %s", f.ID, w.Reason), true
	}
	if d != nil {
		if verdict, reason := s.judgeHere(d); verdict != "" {
			return verdict, reason, true
		}
	}
	base := s.Leading()
	if base == nil || base.Name != f.image.Name || !newer(base.Version, f.Release.Version) {
		return "", "", false
	}
	return TooOld, fmt.Sprintf("the channel holds %s, older than %s that %s; ashlar update --to %[1]s takes it all the same",
		f.Release.Version, base.Version, s.does(base)), true
}

// judgeHere judges a release by its deployment; empty where that says nothing.
func (s *State) judgeHere(d *Deployment) (Verdict, string) {
	switch {
	case d.Is(Running):
		return Current, fmt.Sprintf("%s is running", d.ID())
	case d.Is(Failed):
		return HasFailed, fmt.Sprintf("%s did not come up here in %d tries; ashlar update --retry %s tries it again", d.ID(), d.tries(), d.Version)
	case d.Is(Retired) && d.Remembered():
		return WasBack, fmt.Sprintf("this machine was rolled back from %s; ashlar update --retry %s stages it again", d.ID(), d.Version)
	case d.Is(Retired):
		return WasBack, fmt.Sprintf("this machine was rolled back from %s; ashlar rollback %s goes forward again", d.ID(), d.Version)
	case d.Is(Next):
		return Waiting, fmt.Sprintf("%s is staged and boots next", d.ID())
	}
	return "", ""
}

// judgeDocument is for what only the document tells: its image may be here
// under another release, and it may be out of reach.
func (s *State) judgeDocument(doc *release.Document) (Verdict, string) {
	if d := s.Of(doc.Root().Digest); d != nil {
		if verdict, reason := s.judgeHere(d); verdict != "" {
			return verdict, reason
		}
	}
	base := s.Leading()
	if base != nil && base.Name == doc.Name && doc.ReachableFrom != "" && newer(doc.ReachableFrom, base.Version) {
		return TooFar, fmt.Sprintf("%s can be reached from %s or newer, and %s %s here; update to a release between them first",
			doc.ID, doc.ReachableFrom, base.Version, s.does(base))
	}
	return Available, ""
}

// does says what the leading deployment does.
func (s *State) does(base *Deployment) string {
	if base.Is(Running) {
		return "runs"
	}
	return "boots next"
}

// ofRelease returns the deployment of a release document, or nil.
func (s *State) ofRelease(digest string) *Deployment {
	for i := range s.Deployments {
		if s.Deployments[i].Release == digest {
			return &s.Deployments[i]
		}
	}
	return nil
}

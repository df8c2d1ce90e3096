package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// PublishOptions says what to publish where.
type PublishOptions struct {
	From, To *Repository
	Tag      string // of the release in From; "" where it holds one release only
	Channel  string // to move to the release; "" for none

	// AllowOlder also moves a channel back.
	AllowOlder bool
}

// PublishPlan is what publishing will do.
type PublishPlan struct {
	Release *Release
	Version string // its tag in the repository
	Channel string
	Before  string // the version that the channel names now; "" for none
	Moves   bool   // false: the channel names this release already

	from, to *Repository
}

// A RefusedError says why a release may not be published, and what would help.
type RefusedError struct {
	err  error
	hint string
}

func (e *RefusedError) Error() string { return e.err.Error() }
func (e *RefusedError) Unwrap() error { return e.err }

// Hint is what would help.
func (e *RefusedError) Hint() string { return e.hint }

// PlanPublish reads both sides, writes nothing, and refuses what would surprise
// the machines that follow the channel: another image, an older version, or
// other content under a version that is published already.
func PlanPublish(ctx context.Context, o PublishOptions) (*PublishPlan, error) {
	if o.Channel != "" {
		if err := release.CheckChannel(o.Channel); err != nil {
			return nil, err
		}
		if o.Channel == TagTrust {
			return nil, fmt.Errorf("channel %q: the tag of that name holds the repository's signed metadata", o.Channel)
		}
	}
	tag, err := o.From.SoleRelease(ctx, o.Tag)
	if err != nil {
		return nil, err
	}
	rel, err := o.From.ReadRelease(ctx, tag)
	if err != nil {
		return nil, err
	}
	plan := &PublishPlan{
		Release: rel, Version: release.Tag(rel.Document.Version), Channel: o.Channel,
		from: o.From, to: o.To,
	}
	if err := plan.checkVersion(ctx); err != nil {
		return nil, err
	}
	if o.Channel == "" {
		return plan, nil
	}
	return plan, plan.checkChannel(ctx, o.AllowOlder)
}

// SoleRelease is tag, or else, where that is empty, a tag of the only release
// in r. Two versions are two releases, so that only the few tags of a place
// which may hold one release are looked at.
func (r *Repository) SoleRelease(ctx context.Context, tag string) (string, error) {
	if tag != "" {
		return tag, nil
	}
	tags, err := r.Tags(ctx)
	if err != nil {
		return "", err
	}
	// Registries without a referrers API keep their lists under such tags.
	tags = slices.DeleteFunc(tags, func(t string) bool { return strings.HasPrefix(t, "sha256-") || t == TagTrust })
	if len(tags) == 0 {
		return "", fmt.Errorf("%s holds no release", r.Name)
	}
	versions := 0
	for _, t := range tags {
		if isVersionTag(t) {
			versions++
		}
	}
	several := versions > 1 || len(tags) > maxSoleTags
	var first digest.Digest
	for i := 0; i < len(tags) && !several; i++ {
		desc, err := r.Resolve(ctx, tags[i])
		if err != nil {
			return "", err
		}
		if first == "" {
			first = desc.Digest
		}
		several = desc.Digest != first
	}
	if !several {
		return tags[0], nil
	}
	return "", &RefusedError{
		err:  fmt.Errorf("which release of %s? Its tags are %s", r.Name, enumerate(tags, 8)),
		hint: fmt.Sprintf("name one by its tag, such as %s:%s", r.Name, tags[0]),
	}
}

// enumerate lists words, at most limit of them.
func enumerate(words []string, limit int) string {
	if more := len(words) - limit; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:limit], ", "), more)
	}
	return strings.Join(words, ", ")
}

// checkVersion refuses to give a published version another content.
func (p *PublishPlan) checkVersion(ctx context.Context) error {
	there, err := p.to.Resolve(ctx, p.Version)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case there.Digest != p.Release.Index.Digest:
		return &RefusedError{
			err: fmt.Errorf("version %s is published in %s already, with other content (%s, and this is %s)",
				p.Release.Document.Version, p.to.Name, there.Digest, p.Release.Index.Digest),
			hint: "give what has changed a new version",
		}
	}
	return nil
}

func (p *PublishPlan) checkChannel(ctx context.Context, allowOlder bool) error {
	there, err := p.to.Resolve(ctx, p.Channel)
	if errors.Is(err, ErrNotFound) {
		p.Moves = true
		return nil
	}
	if err != nil {
		return err
	}
	now, err := p.to.ReadRelease(ctx, there.Digest.String())
	if err != nil {
		return fmt.Errorf("looking at channel %q before it is moved: %w", p.Channel, err)
	}
	doc := p.Release.Document
	p.Before, p.Moves = now.Document.Version, there.Digest != p.Release.Index.Digest
	switch {
	case now.Document.Name != doc.Name:
		return &RefusedError{
			err:  fmt.Errorf("channel %q of %s is of the image %q, and this is %q", p.Channel, p.to.Name, now.Document.Name, doc.Name),
			hint: "publish another image to a repository of its own",
		}
	case release.CompareVersions(doc.Version, now.Document.Version) < 0 && !allowOlder:
		return &RefusedError{
			err: fmt.Errorf("version %s is older than %s, which channel %q of %s names now",
				doc.Version, now.Document.Version, p.Channel, p.to.Name),
			hint: "--allow-older publishes it all the same",
		}
	}
	return nil
}

// Apply copies what is missing, then moves the channel, as the last request. What
// is signed about it is the publisher's to write, so no signed metadata is copied.
func (p *PublishPlan) Apply(ctx context.Context, report progress.Reporter) (CopyResult, error) {
	result, err := copyTag(ctx, p.from, p.to, p.Release.Index.Digest.String(), p.Version, report)
	if err != nil {
		return result, fmt.Errorf("copying %s from %s to %s: %w", p.Release.Document.ID, p.from.Name, p.to.Name, err)
	}
	if p.Channel == "" || !p.Moves {
		return result, nil
	}
	return result, p.to.Tag(ctx, result.Descriptor, p.Channel)
}

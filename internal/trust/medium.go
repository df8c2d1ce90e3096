package trust

import (
	"bytes"
	"context"
	"math"
)

// RefreshMedium is Refresh from a medium: a stick or a disc that was written some
// time ago and that nobody renews. That its timestamp and its snapshot have expired
// is not held against it. They expire within days, so that a repository cannot show
// the past for long; a medium shows nothing else, and who starts a machine from it
// knows how old it is. The machine asks for newer at its first check.
//
// Everything else holds: signatures and thresholds, that the files belong together,
// that nothing older than what was accepted before is accepted, and the time of the
// roles that people sign, root, targets and channels. And since a medium is judged as a
// whole, so do those files that the way from the root to the release did not need.
func (c *Client) RefreshMedium(ctx context.Context, src Files) (*View, error) {
	if err := c.Image.check(); err != nil {
		return nil, err
	}
	view, err := c.Look(ctx, src)
	if err != nil {
		return nil, err
	}
	if err := checkUnneeded(ctx, src, view); err != nil {
		return nil, err
	}
	kept, _ := c.load() // what is damaged says nothing about the time
	if kept == nil {
		kept = &accepted{}
	}
	now := c.time(kept)
	for _, s := range view.Signed() {
		if s.Role != RoleTimestamp && s.Role != RoleSnapshot && now.After(s.Expires) {
			return nil, stale(s.Role, s.Expires, now)
		}
	}
	// What was kept is judged anew here: a medium may not be older than it.
	return c.refresh(ctx, src, timeless)
}

// checkUnneeded looks at the files that led nowhere: older roots, from which an older image
// would begin, and what does not belong.
func checkUnneeded(ctx context.Context, files Files, view *View) error {
	current := map[string]bool{}
	for _, s := range view.Signed() {
		current[FileName(s.Role, s.Version)] = true
	}
	first := int64(math.MaxInt64)
	for _, name := range files.Names() {
		if n, ok := rootNumber(name); ok {
			first = min(first, n)
		} else if !current[name] {
			return untrusted("the file %q does not belong to the others", name)
		}
	}
	name := FileName(RoleRoot, first)
	if files[name] == nil {
		return nil // the root that one believes is the only one
	}
	other, err := (&Client{Root: files[name]}).Look(ctx, files)
	if err != nil {
		return untrusted("the file %q: %v", name, err)
	}
	if !bytes.Equal(other.Root(), view.Root()) {
		return untrusted("the file %q leads to another root", name)
	}
	return nil
}

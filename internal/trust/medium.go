package trust

import "context"

// RefreshMedium is Refresh from a medium: a stick or a disc that was written some
// time ago and that nobody renews. That its timestamp and its snapshot have expired
// is not held against it. They expire within days, so that a repository cannot show
// the past for long; a medium shows nothing else, and who starts a machine from it
// knows how old it is. The machine asks for newer at its first check.
//
// Everything else holds: signatures and thresholds, that the files belong together,
// that nothing older than what was accepted before is accepted, and the time of the
// roles that people sign, root, targets and channels.
func (c *Client) RefreshMedium(ctx context.Context, src Source) (*View, error) {
	if err := c.Image.check(); err != nil {
		return nil, err
	}
	view, err := c.Look(ctx, src)
	if err != nil {
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

package trust

import "time"

// The time by which expiry is judged is the latest of
//
//   - this machine's clock,
//   - the build time of the image that runs (Client.Floor): it was built in the past,
//   - when metadata was last accepted, by the clock of then,
//   - when the accepted timestamp was signed, as it says itself.
//
// So a machine whose battery died, and whose clock says 1970, goes on from what
// it knew last: it updates, and what had expired by then stays expired. All it
// loses is to notice what expired since, until the clock is right.
//
// A clock in the future makes everything expired; nothing is accepted then, so
// nothing of that time is remembered, and the machine recovers with its clock.
// A clock that is ahead by less than that is remembered at most until the
// timestamp that was accepted by it expires: some days.
//
// Floors are there to be believed, so they must not come from a thief. The time
// that a stolen timestamp key signs is forgotten with the key: when the root
// replaces the keys of timestamp or snapshot, the accepted files go, and with
// them what they say of time (see accepted.reconcile).
func (c *Client) time(kept *accepted) time.Time {
	t := time.Now
	if c.Now != nil {
		t = c.Now
	}
	now := t().UTC()
	for _, floor := range []time.Time{c.Floor, kept.At, kept.signedAt} {
		if floor.After(now) {
			now = floor.UTC()
		}
	}
	return now
}

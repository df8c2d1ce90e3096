package trust

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// Client is a machine's (or a publisher's) memory of one repository.
type Client struct {
	// Dir keeps what was accepted, such as /sysroot/ashlar/trust/server.
	// Empty remembers nothing, and so notices no rollback.
	Dir string
	// Root is the first root, from a place that is sealed: the image.
	Root []byte
	// Image is what this machine runs; metadata of any other is refused.
	Image Target
	// Now is this machine's clock; nil is time.Now.
	Now func() time.Time
	// Floor is a time in the past, such as when the running image was built.
	Floor time.Time
}

// Refresh reads what the source has, verifies all of it, and accepts it: from
// then on nothing older is good. An error means that nothing was accepted, but
// for new roots: a key that was revoked stays so, whatever else is wrong.
//
// Two refreshes at once do not disturb each other.
func (c *Client) Refresh(ctx context.Context, src Source) (*View, error) {
	if err := c.Image.check(); err != nil {
		return nil, err
	}
	return c.refresh(ctx, src, c.time)
}

// Accepted returns what was last accepted, without asking anybody, however long
// ago that was: see [View.Stale]. When that is nothing, the error is
// [ErrNothingAccepted].
func (c *Client) Accepted() (*View, error) {
	kept, err := c.load()
	if err != nil {
		return nil, fmt.Errorf("reading the accepted metadata: %w", err)
	}
	if kept.files[stampName] == nil {
		return nil, ErrNothingAccepted
	}
	// As a source it must convince like any other. Its time may be over.
	w := &walk{src: kept.files, kept: &accepted{}, clock: timeless}
	if err := w.run(context.Background(), c.Root); err != nil {
		return nil, fmt.Errorf("the accepted metadata is damaged: %w", err)
	}
	view, err := newView(w, c.Image)
	if err != nil {
		return nil, fmt.Errorf("the accepted metadata is damaged: %w", err)
	}
	kept.signedAt = view.SignedAt()
	view.now, view.Unchanged = c.time(kept), true
	return view, nil
}

// timeless is a clock by which nothing has expired.
func timeless(*accepted) time.Time { return time.Time{} }

// A machine that finds nothing new writes down now and then that it looked,
// because that time is a floor for its clock.
const noteEvery = 24 * time.Hour

func (c *Client) refresh(ctx context.Context, src Source, clock func(*accepted) time.Time) (*View, error) {
	kept, damage := c.load()
	if damage != nil {
		kept = &accepted{} // as on the first day; who could write there could delete it as well
	}
	before := *kept
	w := &walk{src: src, kept: kept, clock: clock, damage: damage}
	err := w.run(ctx, c.Root)
	var view *View
	if err == nil {
		view, err = newView(w, c.Image)
	}
	if err != nil {
		return nil, errors.Join(err, c.keepRoots(w, before))
	}
	if w.damage == nil && !before.intact(w.files) {
		w.damage = errors.New("files of the accepted metadata are missing or were changed")
	}
	view.Damage = w.damage
	view.Unchanged = w.damage == nil && !w.newRoots && string(before.files[stampName]) == string(w.files[stampName])
	now := c.time(&accepted{note: note{At: before.At}}) // not the time that a signature claims
	if view.now.IsZero() {
		view.now = now // a publisher, who looks whatever the time
	}
	// The roots may differ all the same, when a new image brought newer ones.
	if view.Unchanged && now.Sub(before.At) < noteEvery && maps.EqualFunc(before.files, w.files, bytes.Equal) {
		return view, nil
	}
	if err := c.keep(w.files, note{At: now, Root: w.tuf.Root.Signed.Version, Online: onlineKeys(w.tuf.Root)}, w.damage); err != nil {
		return nil, err
	}
	return view, nil
}

// keepRoots accepts new roots (5.3.8) although something after them failed, and
// leaves the rest as it was: what it was accepted under is in the note.
func (c *Client) keepRoots(w *walk, before accepted) error {
	if !w.newRoots {
		return nil
	}
	files := maps.Clone(before.files)
	if files == nil {
		files = Files{}
	}
	for name, data := range w.files {
		if roleOf(name) == RoleRoot {
			files[name] = data
		}
	}
	before.Root = w.tuf.Root.Signed.Version
	return c.keep(files, before.note, w.damage)
}

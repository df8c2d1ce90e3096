package etc

import (
	"fmt"
	"slices"
	"sort"
)

// Diff lists what the upper directory changes of the lower one, sorted by
// path. What was copied up and is the same again is no change.
func Diff(lower, upper string) ([]Change, error) {
	l, err := read(lower)
	if err != nil {
		return nil, fmt.Errorf("comparing /etc: %w", err)
	}
	u, err := read(upper)
	if err != nil {
		return nil, fmt.Errorf("comparing /etc: %w", err)
	}
	if !l.isDir() || !u.isDir() {
		return nil, fmt.Errorf("comparing /etc: %q and %q are not both directories", lower, upper)
	}
	d := differ{changes: []Change{}}
	if err := d.path("", l, u); err != nil {
		return nil, fmt.Errorf("comparing /etc: %w", err)
	}
	sort.Slice(d.changes, func(i, j int) bool { return d.changes[i].Path < d.changes[j].Path })
	return d.changes, nil
}

type differ struct {
	changes []Change
}

func (d *differ) add(rel string, kind Kind, n *node, what string) {
	d.changes = append(d.changes, Change{Path: absolute(rel), Kind: kind, Type: n.typeName(), What: what})
}

// path compares one name that the upper directory speaks about; u is nil for
// one that an opaque directory hides.
func (d *differ) path(rel string, l, u *node) error {
	if u == nil || u.isWhiteout() {
		if l != nil {
			d.add(rel, Removed, l, "")
		}
		return nil
	}
	switch {
	case l == nil:
		d.add(rel, Added, u, "")
	case l.typ != u.typ:
		d.add(rel, Changed, u, "type")
	default:
		content, err := sameContent(l, u)
		if err != nil {
			return err
		}
		metadata := l.meta.equal(u.meta)
		switch {
		case !content && !metadata:
			d.add(rel, Changed, u, "content and metadata")
		case !content:
			d.add(rel, Changed, u, "content")
		case !metadata:
			d.add(rel, Changed, u, "metadata")
		}
	}
	return d.below(rel, l, u)
}

func (d *differ) below(rel string, l, u *node) error {
	names, err := u.names()
	if err != nil {
		return err
	}
	if u.opaque {
		hidden, err := l.names()
		if err != nil {
			return err
		}
		names = append(names, hidden...)
		slices.Sort(names)
		names = slices.Compact(names)
	}
	for _, name := range names {
		cl, err := l.child(name)
		if err != nil {
			return err
		}
		cu, err := u.upperChild(name)
		if err != nil {
			return err
		}
		if err := d.path(rel+"/"+name, cl, cu); err != nil {
			return err
		}
	}
	return nil
}

package etc

import (
	"slices"
)

// directory merges a directory that the machine has. Where t is nil the new
// image has none there, and where b is nil the old one had none.
//
// An opaque directory hides everything below it: the machine removed one and
// made it anew. Here that is the same as a whiteout for every name of the old
// image that the new directory lacks, and it is written like that: what the
// next image adds then shows, as anything does that it adds.
func (m *merger) directory(rel string, b, u, t *node) (*entry, error) {
	names, err := u.names()
	if err != nil {
		return nil, err
	}
	if u.opaque {
		hidden, err := b.names()
		if err != nil {
			return nil, err
		}
		names = append(names, hidden...)
		slices.Sort(names)
		names = slices.Compact(names)
	}
	e := copyOf(u)
	for _, name := range names {
		if err := m.name(e, rel+"/"+name, name, b, u, t); err != nil {
			return nil, err
		}
	}
	switch {
	case t != nil:
		m.directoryMeta(rel, e, b, u, t)
		if e.children == nil && e.meta.equal(t.meta) {
			return nil, nil
		}
	case b == nil:
		m.note(rel, Kept, "") // the machine's own directory
	case e.children == nil:
		// The new image removed it, and the machine had nothing of its own in it.
		return nil, nil
	}
	return e, nil
}

// name merges one name of directory u into e.
func (m *merger) name(e *entry, rel, name string, b, u, t *node) error {
	// A conflict of this merge leaves a newer file under this name.
	if _, taken := e.children[name]; taken {
		return nil
	}
	cb, err := b.child(name)
	if err != nil {
		return err
	}
	cu, err := u.upperChild(name)
	if err != nil {
		return err
	}
	ct, err := t.child(name)
	if err != nil {
		return err
	}
	child, err := m.path(rel, cb, cu, ct)
	if err != nil {
		return err
	}
	e.add(name, child)
	item := m.items[absolute(rel)]
	if item.Result != Conflict || ct == nil || cu.isDir() && ct.isDir() || len(name)+len(NewSuffix) > 255 {
		return nil
	}
	beside, err := copyTree(ct)
	if err != nil {
		return err
	}
	e.add(name+NewSuffix, beside)
	item.New = item.Path + NewSuffix
	m.items[item.Path] = item
	return nil
}

// directoryMeta merges the metadata of a directory that both have. Its time is
// nobody's decision: it follows from what is in it.
func (m *merger) directoryMeta(rel string, e *entry, b, u, t *node) {
	e.meta.mtime = t.mtime
	if b != nil && u.meta.equal(b.meta) {
		e.meta = t.meta
		return
	}
	merged, clash := mergeMeta(b, u, t)
	merged.mtime = t.mtime
	e.meta = merged
	switch {
	case clash:
		m.note(rel, Conflict, "owner, mode or attributes changed here and by the new image; those here stay")
	case merged.equal(t.meta):
		m.note(rel, Dropped, "the new image has the same")
	case b != nil && t.meta.equal(b.meta):
		m.note(rel, Kept, "")
	default:
		m.note(rel, Merged, "")
	}
}

// vanished: the machine made a directory where the old image had something
// else and the new one has nothing.
func (m *merger) vanished(rel string, b, u *node) (*entry, error) {
	e, err := m.mine(nil, u)
	if err != nil {
		return nil, err
	}
	m.note(rel, Conflict, "a directory here, a "+b.typeName()+" in the old image, removed by the new one; the directory stays")
	return e, nil
}

// replaced: the machine has a directory where the new image has something else.
func (m *merger) replaced(rel string, b, u, t *node) (*entry, error) {
	if b.isDir() {
		changed, err := m.changed(b, u)
		if err != nil || !changed {
			return nil, err
		}
	}
	e, err := m.mine(b, u)
	if err != nil {
		return nil, err
	}
	unchanged, err := sameTree(b, t)
	if err != nil {
		return nil, err
	}
	if unchanged {
		m.note(rel, Kept, "")
	} else {
		m.note(rel, Conflict, "a directory here, a "+t.typeName()+" in the new image; the directory stays")
	}
	return e, nil
}

// changed reports whether an upper directory says anything that the old image does not.
func (m *merger) changed(b, u *node) (bool, error) {
	d := differ{}
	if err := d.path("", b, u); err != nil {
		return false, err
	}
	return len(d.changes) > 0, nil
}

// mine plans a directory as the machine saw it: what the old image had there
// with the upper directory on top.
func (m *merger) mine(b, u *node) (*entry, error) {
	e := copyOf(u)
	if b.isDir() && !u.opaque {
		below, err := b.names()
		if err != nil {
			return nil, err
		}
		for _, name := range below {
			cu, err := u.upperChild(name)
			if err != nil {
				return nil, err
			}
			if cu != nil {
				continue
			}
			cb, err := b.child(name)
			if err != nil {
				return nil, err
			}
			ce, err := copyTree(cb)
			if err != nil {
				return nil, err
			}
			e.add(name, ce)
		}
	}
	above, err := u.names()
	if err != nil {
		return nil, err
	}
	for _, name := range above {
		cu, err := u.upperChild(name)
		if err != nil {
			return nil, err
		}
		if cu.isWhiteout() {
			continue
		}
		var cb *node
		if !u.opaque {
			if cb, err = b.child(name); err != nil {
				return nil, err
			}
		}
		ce := copyOf(cu)
		if cu.isDir() {
			if ce, err = m.mine(cb, cu); err != nil {
				return nil, err
			}
		}
		e.add(name, ce)
	}
	return e, nil
}

package etc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"

	"golang.org/x/sys/unix"
)

// Merge fills o.OutUpper and reports what it did. Everything is on the disk
// when it returns. It writes nowhere else; on error, or after a cut, OutUpper
// holds a part of the result and is to be removed: so give it a temporary name
// and rename it when Merge has returned.
func Merge(o MergeOptions) (*Report, error) {
	root, report, err := plan(o)
	if err != nil {
		return nil, err
	}
	if err := apply(o.OutUpper, root); err != nil {
		return nil, fmt.Errorf("merging /etc: %w", err)
	}
	if err := syncFS(o.OutUpper); err != nil {
		return nil, fmt.Errorf("merging /etc: %w", err)
	}
	return report, nil
}

// Preview reports what Merge would do and writes nothing.
func Preview(o MergeOptions) (*Report, error) {
	_, report, err := plan(o)
	return report, err
}

func plan(o MergeOptions) (*entry, *Report, error) {
	roots := make([]*node, 3)
	for i, dir := range []string{o.BaseDir, o.MineUpper, o.TheirsDir} {
		n, err := read(dir)
		if err != nil {
			return nil, nil, fmt.Errorf("merging /etc: %w", err)
		}
		if !n.isDir() {
			return nil, nil, fmt.Errorf("merging /etc: %q is not a directory", dir)
		}
		roots[i] = n
	}
	m := &merger{items: make(map[string]Item)}
	root, err := m.directory("", roots[0], roots[1], roots[2])
	if err != nil {
		return nil, nil, fmt.Errorf("merging /etc: %w", err)
	}
	if root == nil {
		root = copyOf(roots[2])
	}
	r := &Report{Schema: Schema, Items: []Item{}}
	for _, it := range m.items {
		r.Items = append(r.Items, it)
	}
	sort.Slice(r.Items, func(i, j int) bool { return r.Items[i].Path < r.Items[j].Path })
	return root, r, nil
}

// apply writes the plan into dir, which is made, or is there and empty.
func apply(dir string, root *entry) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return fmt.Errorf("%q is not empty", dir)
	}
	var w writer
	if err := w.writeChildren(dir, root); err != nil {
		return err
	}
	return setMeta(dir, unix.S_IFDIR, root.meta)
}

// syncFS brings the merge to the disk at once, however many files it made.
func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// merger makes the plan. Below, b is the node of the old image (base), u that
// of the old upper directory (mine), t that of the new image (theirs); each
// may be nil. What a method returns is the new upper's entry, nil for none.
type merger struct {
	items map[string]Item // by path
}

func (m *merger) note(rel string, result Result, detail string) {
	path := absolute(rel)
	m.items[path] = Item{Path: path, Result: result, Detail: detail}
}

func absolute(rel string) string { return "/etc" + rel }

// path merges one name that the upper directory speaks about.
func (m *merger) path(rel string, b, u, t *node) (*entry, error) {
	switch {
	case u == nil || u.isWhiteout():
		return m.removed(rel, b, t)
	case !u.isDir():
		return m.leaf(rel, b, u, t)
	case t.isDir(), t == nil && (b == nil || b.isDir()):
		// Also where the old image had something else: then both made a
		// directory of it, and there is no base to compare with.
		if !b.isDir() {
			b = nil
		}
		return m.directory(rel, b, u, t)
	case t == nil:
		return m.vanished(rel, b, u)
	}
	return m.replaced(rel, b, u, t)
}

// removed: the machine has nothing there any more.
func (m *merger) removed(rel string, b, t *node) (*entry, error) {
	if b == nil { // nor had the old image: the machine changed nothing
		return nil, nil
	}
	if t == nil {
		m.note(rel, Dropped, "the new image has removed it too")
		return nil, nil
	}
	unchanged, err := sameTree(b, t)
	if err != nil {
		return nil, err
	}
	if unchanged {
		m.note(rel, Deleted, "")
	} else {
		m.note(rel, Conflict, "removed here, changed by the new image; it stays removed")
	}
	return whiteout(), nil
}

// leaf: the machine has something that is no directory there.
func (m *merger) leaf(rel string, b, u, t *node) (*entry, error) {
	if mine, err := same(u, b); err != nil {
		return nil, err
	} else if mine { // copied up, but not changed
		return nil, nil
	}
	if equal, err := same(u, t); err != nil {
		return nil, err
	} else if equal {
		m.note(rel, Dropped, "the new image has the same")
		return nil, nil
	}
	if unchanged, err := sameTree(b, t); err != nil {
		return nil, err
	} else if unchanged { // this includes: neither image has it
		m.note(rel, Kept, "")
		return copyOf(u), nil
	}
	if isBackup(rel) {
		m.note(rel, Kept, "")
		return copyOf(u), nil
	}
	switch {
	case t == nil:
		m.note(rel, Conflict, "changed here, removed by the new image; the changed one stays")
		return copyOf(u), nil
	case u.typ == t.typ && (b == nil || b.typ == u.typ):
		return m.both(rel, b, u, t)
	}
	m.note(rel, Conflict, fmt.Sprintf("a %s here, a %s in the new image; the one here stays", u.typeName(), t.typeName()))
	return copyOf(u), nil
}

// both: three nodes of one type (b may be missing), mine and theirs changed.
// Content and metadata are merged apart: a new default mode and a local edit
// do not exclude each other.
func (m *merger) both(rel string, b, u, t *node) (*entry, error) {
	merged, clash := mergeMeta(b, u, t)
	e := &entry{from: u, meta: merged}
	var detail string
	if clash {
		detail = "owner, mode or attributes changed here and by the new image; those here stay"
	}
	sameUT, err := sameContent(u, t)
	if err != nil {
		return nil, err
	}
	sameUB, err := sameContent(u, b)
	if err != nil {
		return nil, err
	}
	sameTB, err := sameContent(t, b)
	if err != nil {
		return nil, err
	}
	switch {
	case sameUT, sameUB:
		e.from, e.meta.mtime = t, t.mtime
	case sameTB:
		// from u, as it is
	default:
		content, conflict, err := mergeContent(rel, b, u, t)
		if err != nil {
			return nil, err
		}
		if conflict != "" {
			detail, clash = conflict, true
		}
		if content != nil {
			e.content, e.override = content, true
			if equal, err := holds(t, content); err != nil {
				return nil, err
			} else if equal {
				e = &entry{from: t, meta: merged}
			}
		}
	}
	switch {
	case clash:
		m.note(rel, Conflict, detail)
	case e.from == t && e.meta.equal(t.meta):
		// Nothing of the machine's is left that the new image lacks.
		m.note(rel, Dropped, "the new image has the same")
		return nil, nil
	default:
		m.note(rel, Merged, "")
	}
	return e, nil
}

// mergeMeta merges field by field. Where both changed one differently, mine
// wins and clash is set.
func mergeMeta(b, u, t *node) (merged meta, clash bool) {
	merged = u.meta
	if b == nil {
		// Without a base every difference is one that both made.
		return merged, !u.meta.equal(t.meta)
	}
	base := b.meta
	pick := func(b, u, t uint32) uint32 {
		switch {
		case u == t, t == b:
			return u
		case u == b:
			return t
		}
		clash = true
		return u
	}
	merged.perm = pick(base.perm, u.perm, t.perm)
	merged.uid = pick(base.uid, u.uid, t.uid)
	merged.gid = pick(base.gid, u.gid, t.gid)
	merged.xattrs = make(map[string]string)
	for _, from := range []map[string]string{base.xattrs, u.xattrs, t.xattrs} {
		for name := range from {
			bv, inB := base.xattrs[name]
			uv, inU := u.xattrs[name]
			tv, inT := t.xattrs[name]
			value, in := uv, inU
			switch {
			case inU == inT && uv == tv, inT == inB && tv == bv:
			case inU == inB && uv == bv:
				value, in = tv, inT
			default:
				clash = true
			}
			if in {
				merged.xattrs[name] = value
			}
		}
	}
	return merged, clash
}

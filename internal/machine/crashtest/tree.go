package crashtest

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Tree is a file system in memory: directories with names, files with bytes.
// Nodes are numbered, and a number is never used again; 0 is none, 1 the root.
type Tree struct {
	nodes []Node
}

// Node is a file, a directory or a symbolic link. Data and Names are never written
// to once a tree has been cloned, but replaced. A link has its target from the
// start: the file system's journal has both in one transaction.
type Node struct {
	Dir    bool
	Data   []byte
	Target string // "": no link
	Sealed bool
	Names  map[string]int
}

// SealAttribute stands for fs-verity's flag, on file systems that have none: who
// plays the kernel sets it where the kernel would set the flag.
const SealAttribute = "user.ashlar.sealed"

const rootNode = 1

// Load reads a directory.
func Load(t testing.TB, dir string) *Tree {
	t.Helper()
	tree := &Tree{nodes: []Node{{}, {Dir: true, Names: map[string]int{}}}}
	must(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		op := tree.create(rel, e.IsDir())
		tree.apply(op)
		if e.Type() == fs.ModeSymlink {
			tree.nodes[op.Node].Target, err = os.Readlink(name)
			return err
		}
		if !e.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(name)
		tree.nodes[op.Node].Data = b
		return err
	}))
	return tree
}

// Store writes the tree below dir, which must be empty.
func (t *Tree) Store(tb testing.TB, dir string) {
	tb.Helper()
	must(tb, t.Walk(func(name string, n *Node) error {
		if n.Dir {
			return os.MkdirAll(filepath.Join(dir, name), 0o755)
		}
		if n.Target != "" {
			return os.Symlink(n.Target, filepath.Join(dir, name))
		}
		return os.WriteFile(filepath.Join(dir, name), n.Data, 0o644)
	}))
}

// Walk calls fn for everything but the root, directories before what is in
// them, in the order of names.
func (t *Tree) Walk(fn func(name string, n *Node) error) error {
	return t.walk(".", rootNode, fn)
}

func (t *Tree) walk(dir string, node int, fn func(string, *Node) error) error {
	names := t.nodes[node].Names
	for _, name := range slices.Sorted(maps.Keys(names)) {
		child := names[name]
		full := path.Join(dir, name)
		if err := fn(full, &t.nodes[child]); err != nil {
			return err
		}
		if t.nodes[child].Dir {
			if err := t.walk(full, child, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReadFile is os.ReadFile.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	n := t.lookup(name)
	if n == 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return t.nodes[n].Data, nil
}

// List is the names in a directory, sorted; none where there is no directory.
func (t *Tree) List(name string) []string {
	return slices.Sorted(maps.Keys(t.nodes[t.lookup(name)].Names))
}

// WriteFile makes or replaces a file.
func (t *Tree) WriteFile(name string, b []byte) {
	n := t.lookup(name)
	if n == 0 {
		op := t.create(name, false)
		t.apply(op)
		n = op.Node
	}
	t.nodes[n].Data = b
}

// RemoveAll makes a directory empty.
func (t *Tree) RemoveAll(name string) {
	if n := t.lookup(name); n != 0 {
		t.nodes[n].Names = map[string]int{}
	}
}

func (t *Tree) clone() *Tree { return &Tree{nodes: slices.Clone(t.nodes)} }

func (t *Tree) lookup(name string) int {
	at := rootNode
	if name == "." {
		return at
	}
	for part := range strings.SplitSeq(name, "/") {
		if at = t.nodes[at].Names[part]; at == 0 {
			return 0
		}
	}
	return at
}

// pathOf is any path of a node, for people.
func (t *Tree) pathOf(node int) (found string) {
	_ = t.Walk(func(name string, n *Node) error {
		if n == &t.nodes[node] {
			found = name
		}
		return nil
	})
	return found
}

func (t *Tree) create(name string, dir bool) Op {
	t.nodes = append(t.nodes, Node{Dir: dir})
	n := len(t.nodes) - 1
	kind := Create
	if dir {
		kind = Mkdir
	}
	return Op{Kind: kind, Path: name, Node: n, Slots: []Slot{{t.lookup(path.Dir(name)), path.Base(name), n}}}
}

func (t *Tree) unlink(name string) Op {
	return Op{Kind: Unlink, Path: name, Node: t.lookup(name), Slots: []Slot{{t.lookup(path.Dir(name)), path.Base(name), 0}}}
}

func (t *Tree) rename(from, to string) Op {
	n := t.lookup(from)
	return Op{Kind: Rename, Path: from, To: to, Node: n, Slots: []Slot{
		{t.lookup(path.Dir(to)), path.Base(to), n}, {t.lookup(path.Dir(from)), path.Base(from), 0},
	}}
}

// apply makes a change.
func (t *Tree) apply(op Op) {
	n := &t.nodes[op.Node]
	switch op.Kind {
	case Seal:
		n.Sealed = true
	case Write:
		end := op.Offset + int64(len(op.Data))
		data := make([]byte, max(end, int64(len(n.Data))))
		copy(data, n.Data)
		copy(data[op.Offset:], op.Data)
		n.Data = data
	case Truncate:
		data := make([]byte, op.Offset)
		copy(data, n.Data)
		n.Data = data
	}
	for _, s := range op.Slots {
		names := maps.Clone(t.nodes[s.Dir].Names)
		if names == nil {
			names = map[string]int{}
		}
		if s.Node == 0 {
			delete(names, s.Name)
		} else {
			names[s.Name] = s.Node
		}
		t.nodes[s.Dir].Names = names
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Kind is what an Op does.
type Kind string

// The kinds.
const (
	Create   Kind = "create"
	Mkdir    Kind = "mkdir"
	Write    Kind = "write"
	Truncate Kind = "truncate"
	Rename   Kind = "rename"
	Unlink   Kind = "unlink"
	Seal     Kind = "seal"
	Fsync    Kind = "fsync"
	Syncfs   Kind = "syncfs"
)

// Op is one change or flush.
type Op struct {
	Kind     Kind
	Path, To string // below the root, as they were then
	Node     int
	Offset   int64  // of a write; the length of a truncation
	Data     []byte // of a write
	Slots    []Slot // the names that change, all at once
}

// Slot is a name in a directory, and what it points to then; 0 for nothing.
type Slot struct {
	Dir  int
	Name string
	Node int
}

func (o Op) String() string {
	switch o.Kind {
	case Rename:
		return fmt.Sprintf("rename %s to %s", o.Path, o.To)
	case Write:
		return fmt.Sprintf("write %d bytes at %d of %s", len(o.Data), o.Offset, o.Path)
	}
	return string(o.Kind) + " " + o.Path
}

// Below is the operation with paths relative to dir.
func (o Op) Below(dir string) Op {
	below := func(name string) string {
		if name == dir {
			return "."
		}
		return strings.TrimPrefix(name, dir+"/")
	}
	o.Path, o.To = below(o.Path), below(o.To)
	return o
}

// Log is what a process did to a disk.
type Log struct {
	Before *Tree
	Ops    []Op
}

// Split parts the log in two: what happened below dir, which is a file system of
// its own, and the rest. Both have as many operations as the log, so that one
// number names one moment in both; what happened elsewhere is empty.
func (l *Log) Split(dir string) (below, rest *Log) {
	below, rest = &Log{Before: l.Before}, &Log{Before: l.Before}
	for _, op := range l.Ops {
		a, b := op, Op{}
		if op.Path != dir && !strings.HasPrefix(op.Path, dir+"/") {
			a, b = b, a
		}
		below.Ops, rest.Ops = append(below.Ops, a), append(rest.Ops, b)
	}
	return below, rest
}

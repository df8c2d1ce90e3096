package composefs

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// maxLine is more than a line within all other limits can have.
const maxLine = 1 << 20

// maxXattrText limits the text of a line's extended attributes, as mkcomposefs does.
const maxXattrText = 0xffff

// DumpError is a line of a dump that cannot be taken.
type DumpError struct {
	Line  int    // counted from 1
	Field string // as composefs-dump(5) calls it, such as "MODE"; may be empty
	Err   error
}

func (e *DumpError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("line %d of the dump: %v", e.Line, e.Err)
	}
	return fmt.Sprintf("line %d of the dump, field %s: %v", e.Line, e.Field, e.Err)
}

func (e *DumpError) Unwrap() error { return e.Err }

// ParseDump reads a tree in the text form of composefs-dump(5): one line a name,
// parents first. What it accepts an image can hold.
func ParseDump(r io.Reader) (*tree.Tree, error) {
	p := &parser{dirs: make(map[string]*directory)}
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := p.next(lines)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := p.parse(line); err != nil {
			return nil, err
		}
	}
	return p.finish()
}

// parser holds what was read so far.
type parser struct {
	line  int
	long  []byte // a line that is longer than the reader's buffer
	root  *tree.Node
	dirs  map[string]*directory // by path, without the last slash
	last  *directory            // of the line before, which most lines share
	path  string                // of last
	links []link
}

// directory is a directory whose children are still coming.
type directory struct {
	node *tree.Node
	// names is nil as long as the children come in order, which makes names
	// that are there twice easy to see.
	names map[string]bool
}

func (p *parser) fail(field string, err error) error { return &DumpError{p.line, field, err} }

func (p *parser) failf(field, format string, args ...any) error {
	return p.fail(field, fmt.Errorf(format, args...))
}

// next returns a line without its end.
func (p *parser) next(r *bufio.Reader) ([]byte, error) {
	p.line++
	p.long = p.long[:0]
	for {
		part, err := r.ReadSlice('\n')
		if len(p.long)+len(part) > maxLine {
			return nil, p.failf("", "it is longer than %d bytes", maxLine)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			p.long = append(p.long, part...)
			continue
		}
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("reading line %d of the dump: %w", p.line, err)
		}
		if len(p.long) > 0 {
			p.long = append(p.long, part...)
			part = p.long
		}
		if len(part) == 0 {
			return nil, io.EOF
		}
		return bytes.TrimSuffix(part, []byte{'\n'}), nil
	}
}

// The fields of a line, before the extended attributes.
const (
	fieldPath = iota
	fieldSize
	fieldMode
	fieldNlink
	fieldUID
	fieldGID
	fieldRdev
	fieldMtime
	fieldPayload
	fieldContent
	fieldDigest
	fieldCount
)

var fieldNames = [fieldCount]string{"PATH", "SIZE", "MODE", "NLINK", "UID", "GID", "RDEV", "MTIME", "PAYLOAD", "CONTENT", "DIGEST"}

func (p *parser) parse(line []byte) error {
	if at := bytes.IndexByte(line, 0); at >= 0 {
		return p.failf("", "there is a zero byte at position %d", at)
	}
	var fields [fieldCount][]byte
	rest := line
	for i := range fields {
		if rest == nil {
			return p.failf(fieldNames[i], "the field is missing")
		}
		var more bool
		if fields[i], rest, more = bytes.Cut(rest, []byte{' '}); !more {
			rest = nil
		}
	}
	path, err := unescape(fields[fieldPath])
	if err != nil {
		return p.fail("PATH", err)
	}
	if len(rest) > maxXattrText {
		return p.failf("XATTRS", "the extended attributes take %d bytes, at most %d are possible", len(rest), maxXattrText)
	}

	n := new(tree.Node)
	mode, isLink := bytes.CutPrefix(fields[fieldMode], []byte{'@'})
	if n.Mode, err = parseMode(mode, isLink); err != nil {
		return p.fail("MODE", err)
	}
	dir, err := p.add(path, n)
	if err != nil {
		return p.fail("PATH", err)
	}
	if isLink {
		return p.addLink(n, fields[fieldPayload])
	}
	if dir != nil {
		p.dirs[path] = dir
	}
	return p.inode(n, &fields, rest)
}

// add puts n where path says. It returns n as a directory, when it is one.
func (p *parser) add(path string, n *tree.Node) (*directory, error) {
	isDir := n.Mode&tree.TypeMask == tree.TypeDir
	if path == "/" {
		switch {
		case !isDir:
			return nil, errors.New(`"/" is not a directory`)
		case p.root != nil:
			return nil, errors.New(`"/" is there twice`)
		}
		p.root = n
		// Children name their parent by what is before the last slash.
		p.dirs[""] = &directory{node: n}
		return nil, nil
	}
	if p.root == nil {
		return nil, errors.New(`the first line is not "/"`)
	}
	slash := strings.LastIndexByte(path, '/')
	if slash < 0 {
		return nil, fmt.Errorf("%q does not begin with a slash", path)
	}
	n.Name = strings.Clone(path[slash+1:])
	if err := checkName(n.Name, len(path)); err != nil {
		return nil, fmt.Errorf("%q: %w", path[:min(len(path), 2*maxName)], err)
	}
	if p.last == nil || p.path != path[:slash] {
		if p.last = p.dirs[path[:slash]]; p.last == nil {
			return nil, fmt.Errorf("%q: no line before this one has its directory", path)
		}
		p.path = path[:slash]
	}
	if !p.last.add(n) {
		return nil, fmt.Errorf("%q is there twice", path)
	}
	if !isDir {
		return nil, nil
	}
	return &directory{node: n}, nil
}

// add appends a child and reports whether its name is new.
func (d *directory) add(n *tree.Node) bool {
	all := d.node.Children
	if d.names == nil && len(all) > 0 && all[len(all)-1].Name >= n.Name {
		d.names = make(map[string]bool, 2*len(all))
		for _, c := range all {
			d.names[c.Name] = true
		}
	}
	if d.names != nil {
		if d.names[n.Name] {
			return false
		}
		d.names[n.Name] = true
	}
	d.node.Children = append(all, n)
	return true
}

// inode reads all fields but PATH and MODE.
func (p *parser) inode(n *tree.Node, fields *[fieldCount][]byte, xattrs []byte) (err error) {
	for _, f := range []struct {
		field int
		to    *uint32
	}{{fieldNlink, &n.Nlink}, {fieldUID, &n.UID}, {fieldGID, &n.GID}, {fieldRdev, &n.Rdev}} {
		v, err := parseUint(fields[f.field], 10, 32)
		if err != nil {
			return p.fail(fieldNames[f.field], err)
		}
		*f.to = uint32(v)
	}
	if n.Size, err = parseUint(fields[fieldSize], 10, 64); err != nil {
		return p.fail("SIZE", err)
	}
	if n.Mtime, err = parseTime(fields[fieldMtime]); err != nil {
		return p.fail("MTIME", err)
	}
	payload, _, err := unescapeOptional(fields[fieldPayload])
	if err != nil {
		return p.fail("PAYLOAD", err)
	}
	if len(payload) > maxPath {
		return p.failf("PAYLOAD", "it has %d bytes, at most %d are possible", len(payload), maxPath)
	}
	content, hasContent, err := unescapeOptional(fields[fieldContent])
	if err != nil {
		return p.fail("CONTENT", err)
	}
	digest, err := parseDigest(fields[fieldDigest])
	if err != nil {
		return p.fail("DIGEST", err)
	}

	kind := n.Mode & tree.TypeMask
	if kind != tree.TypeChar && kind != tree.TypeBlock {
		n.Rdev = 0
	}
	switch kind {
	case tree.TypeSymlink:
		n.Target = payload
		if err := checkTarget(payload); err != nil {
			return p.fail("PAYLOAD", err)
		}
		n.Size = uint64(len(payload))
	case tree.TypeRegular:
		if hasContent {
			if err := checkInline(len(content), n.Size); err != nil {
				return p.fail("CONTENT", err)
			}
			n.Inline = []byte(content)
		}
		if isExternal(n) {
			n.Payload, n.Digest = payload, digest
			if err := checkContent(n); err != nil {
				return p.fail("SIZE", err)
			}
		}
	case tree.TypeDir:
		n.Size = 0
	default:
		// mkcomposefs heeds such a size only where it does not fit into 32 bits.
		if n.Size > math.MaxUint32 {
			return p.failf("SIZE", "only a regular file can have %d bytes", n.Size)
		}
		n.Size = 0
	}
	if hasContent && kind != tree.TypeRegular && content != "" {
		return p.failf("CONTENT", "only a regular file has content")
	}
	return p.xattrs(n, xattrs)
}

// xattrs reads KEY=VALUE, separated by spaces.
func (p *parser) xattrs(n *tree.Node, text []byte) error {
	for len(text) > 0 {
		var pair []byte
		pair, text, _ = bytes.Cut(text, []byte{' '})
		k, v, ok := bytes.Cut(pair, []byte{'='})
		if !ok {
			return p.failf("XATTRS", "%.40q has no equals sign", pair)
		}
		key, err := unescape(k)
		if err != nil {
			return p.fail("XATTRS", err)
		}
		value, err := unescape(v)
		if err != nil {
			return p.fail("XATTRS", fmt.Errorf("%.40q: %w", key, err))
		}
		n.Xattrs = append(n.Xattrs, tree.Xattr{Key: key, Value: []byte(value)})
	}
	slices.SortStableFunc(n.Xattrs, func(a, b tree.Xattr) int { return cmp.Compare(a.Key, b.Key) })
	if err := checkXattrs(n.Xattrs); err != nil {
		return p.fail("XATTRS", err)
	}
	return nil
}

// finish sorts what did not come in order and resolves hard links.
func (p *parser) finish() (*tree.Tree, error) {
	if p.root == nil {
		return nil, errors.New(`the dump is empty: it has no line for "/"`)
	}
	for _, d := range p.dirs {
		if d.names != nil {
			slices.SortFunc(d.node.Children, func(a, b *tree.Node) int { return cmp.Compare(a.Name, b.Name) })
		}
	}
	if err := p.resolve(); err != nil {
		return nil, err
	}
	return &tree.Tree{Root: p.root}, nil
}

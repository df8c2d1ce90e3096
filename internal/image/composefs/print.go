package composefs

import (
	"bufio"
	"fmt"
	"io"
	"strconv"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// WriteDump writes t in the text form that ParseDump reads: depth first, with
// the links of directories counted, and nothing but the metadata repeated in
// the lines of hard links.
func WriteDump(w io.Writer, t *tree.Tree) error {
	p := &printer{w: bufio.NewWriterSize(w, 256<<10), targets: make(map[*tree.Node]string)}
	if err := p.findTargets(t); err != nil {
		return fmt.Errorf("cannot write a dump: %w", err)
	}
	if err := t.Walk(p.line); err != nil {
		return fmt.Errorf("writing a dump: %w", err)
	}
	if err := p.w.Flush(); err != nil {
		return fmt.Errorf("writing a dump: %w", err)
	}
	return nil
}

type printer struct {
	w       *bufio.Writer
	targets map[*tree.Node]string // paths of what hard links lead to
	buf     []byte                // the line that is being made
}

func (p *printer) findTargets(t *tree.Tree) error {
	links := 0
	count := func(_ string, n *tree.Node) error {
		if n.HardLink != nil {
			links++
			p.targets[n.HardLink] = ""
		}
		return nil
	}
	if err := t.Walk(count); err != nil || links == 0 {
		return err
	}
	if err := t.Walk(func(path string, n *tree.Node) error {
		if _, ok := p.targets[n]; ok {
			p.targets[n] = path
		}
		return nil
	}); err != nil {
		return err
	}
	return t.Walk(func(path string, n *tree.Node) error {
		if n.HardLink != nil && p.targets[n.HardLink] == "" {
			return fmt.Errorf("%q: the hard link's target is not in the tree", path)
		}
		return nil
	})
}

func (p *printer) line(path string, n *tree.Node) error {
	in := n.Inode()
	b := appendEscaped(p.buf[:0], path, escapeWord)
	number := func(v uint64, base int) {
		b = strconv.AppendUint(append(b, ' '), v, base)
	}
	number(in.Size, 10)
	b = append(b, ' ')
	if n.HardLink != nil {
		b = append(b, '@')
	}
	b = strconv.AppendUint(b, uint64(in.Mode), 8)
	number(uint64(links(in)), 10)
	number(uint64(in.UID), 10)
	number(uint64(in.GID), 10)
	number(uint64(in.Rdev), 10)
	b = strconv.AppendInt(append(b, ' '), in.Mtime.Sec, 10)
	b = strconv.AppendUint(append(b, '.'), uint64(in.Mtime.Nsec), 10)
	if n.HardLink != nil {
		b = appendOptional(b, p.targets[n.HardLink])
		b = append(b, " - -\n"...)
		return p.flush(b)
	}
	if in.IsSymlink() {
		b = appendOptional(b, in.Target)
	} else {
		b = appendOptional(b, in.Payload)
	}
	b = appendOptional(b, string(in.Inline))
	if in.Digest.IsZero() {
		b = append(b, " -"...)
	} else {
		b = append(append(b, ' '), in.Digest.String()...)
	}
	for _, x := range in.Xattrs {
		b = appendEscaped(append(b, ' '), x.Key, escapeXattr)
		b = appendEscaped(append(b, '='), string(x.Value), escapeXattr)
	}
	return p.flush(append(b, '\n'))
}

func (p *printer) flush(b []byte) error {
	p.buf = b
	_, err := p.w.Write(b)
	return err
}

// links is the number of links of an inode; a directory's is counted.
func links(n *tree.Node) uint32 {
	if !n.IsDir() {
		return n.Nlink
	}
	count := uint32(2)
	for _, c := range n.Children {
		if c.IsDir() {
			count++
		}
	}
	return count
}

package composefs

import (
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// link is a hard link whose target is looked up at the end.
type link struct {
	node   *tree.Node
	target string
	line   int
}

// addLink notes a hard link, of whose fields only the target's path counts.
func (p *parser) addLink(n *tree.Node, payload []byte) error {
	if n.Mode&tree.TypeMask == tree.TypeDir {
		return p.failf("MODE", "a directory cannot be a hard link")
	}
	target, _, err := unescapeOptional(payload)
	if err != nil {
		return p.fail("PAYLOAD", err)
	}
	if target == "" {
		return p.failf("PAYLOAD", "the hard link has no target")
	}
	*n = tree.Node{Name: n.Name}
	p.links = append(p.links, link{n, target, p.line})
	return nil
}

// resolve points each hard link at the inode. A link's target may be a link too.
func (p *parser) resolve() error {
	byNode := make(map[*tree.Node]*link, len(p.links))
	for i := range p.links {
		l := &p.links[i]
		p.line = l.line
		slash := strings.LastIndexByte(l.target, '/')
		if slash < 0 {
			return p.failf("PAYLOAD", "the hard link's target %q does not begin with a slash", l.target)
		}
		if dir := p.dirs[l.target[:slash]]; dir != nil {
			l.node.HardLink = dir.node.Child(l.target[slash+1:])
		}
		switch target := l.node.HardLink; {
		case target == nil && l.target == "/", target != nil && target.Mode&tree.TypeMask == tree.TypeDir:
			return p.failf("PAYLOAD", "the hard link's target %q is a directory", l.target)
		case target == nil:
			return p.failf("PAYLOAD", "no line has the hard link's target %q", l.target)
		case target == l.node:
			return p.failf("PAYLOAD", "the hard link's target is itself: %q", l.target)
		}
		byNode[l.node] = l
	}
	for i := range p.links {
		if err := p.follow(&p.links[i], byNode); err != nil {
			return err
		}
	}
	return nil
}

// follow goes from link to link to the inode, and then makes all of them point at
// it, so that chains cost no more than their length.
func (p *parser) follow(l *link, byNode map[*tree.Node]*link) error {
	end := l.node.HardLink
	for steps := 0; end.HardLink != nil; steps++ {
		if steps > len(p.links) {
			p.line = l.line
			return p.failf("PAYLOAD", "the hard link's target %q leads in a circle", l.target)
		}
		end = end.HardLink
	}
	for n := l.node; n.HardLink != end; {
		next := n.HardLink
		n.HardLink = end
		n = next
	}
	return nil
}

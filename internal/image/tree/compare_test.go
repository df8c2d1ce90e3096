package tree

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

func dir(name string, children ...*Node) *Node {
	d := &Node{Name: name, Mode: TypeDir | 0o755}
	for _, c := range children {
		d.Add(c)
	}
	return d
}

func TestCompare(t *testing.T) {
	base := func(change func(*Node)) *Node {
		n := &Node{Name: "f", Mode: TypeRegular | 0o644, Size: 3, Inline: []byte("abc"), Nlink: 1,
			Xattrs: []Xattr{{"user.a", []byte("1")}}}
		if change != nil {
			change(n)
		}
		return n
	}
	for want, change := range map[string]func(*Node){
		"":              nil,
		"content":       func(n *Node) { n.Inline = []byte("abd") },
		"content links": func(n *Node) { n.Digest, n.Nlink = verity.Digest{1}, 2 },
		"mode owner":    func(n *Node) { n.Mode, n.GID = TypeRegular|0o600, 5 },
		"xattrs":        func(n *Node) { n.Xattrs = []Xattr{{"user.a", []byte("2")}} },
		"time":          func(n *Node) { n.Mtime.Nsec = 1 },
		"type":          func(n *Node) { n.Mode, n.UID = TypeFIFO, 7 },
	} {
		changes := Compare(&Tree{dir("", base(nil))}, &Tree{dir("", base(change))})
		got := ""
		for _, c := range changes {
			got += c.Path + " " + strings.Join(c.What, " ")
		}
		if want != "" {
			want = "/f " + want
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestCompareNames(t *testing.T) {
	file := func(name string) *Node { return &Node{Name: name, Mode: TypeRegular} }
	link := func(name string, to *Node) *Node { return &Node{Name: name, HardLink: to} }
	one, two := file("one"), file("one")
	a := &Tree{dir("", one, dir("b", file("x"), file("y")), file("c"), dir("both", file("in")), link("l", one))}
	b := &Tree{dir("", two, file("a"), file("b"), dir("c", file("in")), dir("both", file("in")), link("m", two), link("l", two))}
	var got []string
	for _, c := range Compare(a, b) {
		got = append(got, fmt.Sprintf("%s %t %t %s", c.Path, c.Old != nil, c.New != nil, c.What))
	}
	want := []string{"/a false true []", "/b true true [type]", "/b/x true false []", "/b/y true false []",
		"/c true true [type]", "/c/in false true []", "/m false true []"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

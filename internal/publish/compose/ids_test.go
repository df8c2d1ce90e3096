package compose

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
)

func TestCompareIDs(t *testing.T) {
	ids := func(s string) map[string]uint32 {
		m := make(map[string]uint32)
		for _, word := range strings.Fields(s) {
			name, id, _ := strings.Cut(word, ":")
			var n uint32
			if _, err := fmt.Sscan(id, &n); err != nil {
				t.Fatal(err)
			}
			m[name] = n
		}
		return m
	}
	const prefix = `ids may not differ from those of release "server-1", because files on machines belong to ids: `
	for _, c := range []struct{ previous, now, want string }{
		{"root:0 a:1", "root:0 a:1", ""},
		{"root:0 a:1", "root:0 a:1 b:2", ""},
		{"root:0 a:1", "root:0", ""},
		{"root:0 a:1", "root:0 a:1 toor:0", ""},
		{"root:0 toor:0", "root:0", ""},
		{"root:0 toor:0", "toor:0", ""},
		{"a:1", "a:2", `user "a" had id 1 and has 2`},
		{"a:1", "b:1", `user id 1 belonged to "a" and belongs to "b"`},
		{"a:1 b:2", "a:2 b:1", `user "a" had id 1 and has 2; user id 1 belonged to "a" and belongs to "b"; ` +
			`user "b" had id 2 and has 1; user id 2 belonged to "b" and belongs to "a"`},
		{"a:1 b:2 c:3", "c:4 d:1 e:1", `user id 1 belonged to "a" and belongs to "d"; user id 1 belonged to "a" and belongs to "e"; ` +
			`user "c" had id 3 and has 4`},
	} {
		err := CompareIDs(&release.Document{ID: "server-1", Users: ids(c.previous)}, &release.Document{Users: ids(c.now)})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s → %s: %v", c.previous, c.now, err)
		case c.want != "" && (err == nil || err.Error() != prefix+c.want):
			t.Errorf("%s → %s:\ngot  %v\nwant %s", c.previous, c.now, err, prefix+c.want)
		}
	}
	err := CompareIDs(&release.Document{ID: "server-1", Users: ids("a:1"), Groups: ids("g:5")},
		&release.Document{Users: ids("a:2"), Groups: ids("h:5")})
	if want := prefix + `user "a" had id 1 and has 2; group id 5 belonged to "g" and belongs to "h"`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// smallTree has files with their content inline.
func smallTree(files map[string]string) *tree.Tree {
	t := &tree.Tree{Root: &tree.Node{Mode: tree.TypeDir | 0o755}}
	for path, content := range files {
		dir := t.Root
		names := strings.Split(strings.Trim(path, "/"), "/")
		for _, name := range names[:len(names)-1] {
			next := dir.Child(name)
			if next == nil {
				next = dir.Add(&tree.Node{Name: name, Mode: tree.TypeDir | 0o755})
			}
			dir = next
		}
		n := &tree.Node{Name: names[len(names)-1], Mode: tree.TypeRegular | 0o644, Size: uint64(len(content)), Inline: []byte(content)}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			n = &tree.Node{Name: n.Name, Mode: tree.TypeSymlink | 0o777, Target: target}
		}
		dir.Add(n)
	}
	return t
}

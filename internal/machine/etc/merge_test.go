package etc

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMerge(t *testing.T) {
	text := func(edits ...string) string {
		l := []string{"one\n", "two\n", "three\n", "four\n", "five\n", "six\n"}
		out := ""
		for i, line := range l {
			for j := 0; j+1 < len(edits); j += 2 {
				if edits[j]+"\n" == l[i] {
					line = edits[j+1] + "\n"
				}
			}
			out += line
		}
		return out
	}
	for _, c := range []struct {
		name               string
		base, mine, theirs files
		out                files
		results            map[string]Result
	}{
		{
			name: "nothing changed here: everything new arrives by itself",
			base: files{"a": "1"}, mine: files{}, theirs: files{"a": "2", "b": "new"},
			out: files{}, results: map[string]Result{},
		},
		{
			name: "changed here only",
			base: files{"a": "1", "d/b": "1"}, mine: files{"a": "mine", "d/b": "mine"}, theirs: files{"a": "1", "d/b": "1", "c": "new"},
			out:     files{"a": "mine", "d/": "", "d/b": "mine"},
			results: map[string]Result{"a": Kept, "d/b": Kept},
		},
		{
			name: "added, removed and linked here",
			base: files{"a": "1", "l": "-> a"}, mine: files{"a": "!", "l": "-> b", "new/x": "x", "new/empty/": ""}, theirs: files{"a": "1", "l": "-> a"},
			out:     files{"a": "!", "l": "-> b", "new/": "", "new/x": "x", "new/empty/": ""},
			results: map[string]Result{"a": Deleted, "l": Kept, "new": Kept, "new/x": Kept, "new/empty": Kept},
		},
		{
			name: "copied up, but the same: the new default arrives",
			base: files{"a": "1"}, mine: files{"a": "1"}, theirs: files{"a": "2"},
			out: files{}, results: map[string]Result{},
		},
		{
			name: "the image caught up",
			base: files{"a": "1", "b": "1", "c": "1"}, mine: files{"a": "2", "b": "!", "n": "n"}, theirs: files{"a": "2", "c": "1", "n": "n"},
			out: files{}, results: map[string]Result{"a": Dropped, "b": Dropped, "n": Dropped},
		},
		{
			name: "text changed in two places",
			base: files{"a": text()}, mine: files{"a": text("one", "1")}, theirs: files{"a": text("six", "6")},
			out: files{"a": text("one", "1", "six", "6")}, results: map[string]Result{"a": Merged},
		},
		{
			name: "text changed in one place",
			base: files{"a": text()}, mine: files{"a": text("two", "2")}, theirs: files{"a": text("two", "zwei")},
			out:     files{"a": text("two", "2"), "a.ashlar-new": text("two", "zwei")},
			results: map[string]Result{"a": Conflict},
		},
		{
			name: "mine is among what they changed",
			base: files{"a": text()}, mine: files{"a": text("two", "2")}, theirs: files{"a": text("two", "2", "six", "6")},
			out: files{}, results: map[string]Result{"a": Dropped},
		},
		{
			name: "binary changed in both",
			base: files{"a": "\x001"}, mine: files{"a": "\x002"}, theirs: files{"a": "\x003"},
			out: files{"a": "\x002", "a.ashlar-new": "\x003"}, results: map[string]Result{"a": Conflict},
		},
		{
			name: "a mode here, a content there",
			base: files{"a": "1"}, mine: files{"a": "#0600 1"}, theirs: files{"a": "2"},
			out: files{"a": "#0600 2"}, results: map[string]Result{"a": Merged},
		},
		{
			name: "a content here, a mode there",
			base: files{"a": "1"}, mine: files{"a": "2"}, theirs: files{"a": "#0600 1"},
			out: files{"a": "#0600 2"}, results: map[string]Result{"a": Merged},
		},
		{
			name: "two modes",
			base: files{"a": "1"}, mine: files{"a": "#0600 1"}, theirs: files{"a": "#0640 1"},
			out: files{"a": "#0600 1", "a.ashlar-new": "#0640 1"}, results: map[string]Result{"a": Conflict},
		},
		{
			name: "removed here, changed there",
			base: files{"a": "1"}, mine: files{"a": "!"}, theirs: files{"a": "2"},
			out: files{"a": "!", "a.ashlar-new": "2"}, results: map[string]Result{"a": Conflict},
		},
		{
			name: "changed here, removed there",
			base: files{"a": "1"}, mine: files{"a": "2"}, theirs: files{},
			out: files{"a": "2"}, results: map[string]Result{"a": Conflict},
		},
		{
			name: "a directory removed there with a file of ours in it",
			base: files{"d/a": "1", "d/b": "1"}, mine: files{"d/mine": "m"}, theirs: files{},
			out: files{"d/": "", "d/mine": "m"}, results: map[string]Result{"d/mine": Kept},
		},
		{
			name: "a directory removed here, changed there",
			base: files{"d/a": "1"}, mine: files{"d": "!"}, theirs: files{"d/a": "2"},
			out:     files{"d": "!", "d.ashlar-new/": "", "d.ashlar-new/a": "2"},
			results: map[string]Result{"d": Conflict},
		},
		{
			name: "a directory made anew",
			base: files{"d/a": "1", "d/b": "1"}, mine: files{"d/": "!", "d/b": "2"}, theirs: files{"d/a": "1", "d/b": "1", "d/c": "new"},
			out: files{"d/": "", "d/a": "!", "d/b": "2"}, results: map[string]Result{"d/a": Deleted, "d/b": Kept},
		},
		{
			name: "a directory became a link there, and was changed here",
			base: files{"d/a": "1", "d/b": "1"}, mine: files{"d/a": "2"}, theirs: files{"d": "-> e"},
			out:     files{"d/": "", "d/a": "2", "d/b": "1", "d.ashlar-new": "-> e"},
			results: map[string]Result{"d": Conflict},
		},
		{
			name: "a directory became a link there, and was only looked at here",
			base: files{"d/a": "1", "d/b": "1"}, mine: files{"d/a": "1"}, theirs: files{"d": "-> e"},
			out: files{}, results: map[string]Result{},
		},
		{
			name: "a file became a directory here",
			base: files{"d": "1"}, mine: files{"d/a": "2"}, theirs: files{"d": "1"},
			out: files{"d/": "", "d/a": "2"}, results: map[string]Result{"d": Kept},
		},
		{
			name: "a file became a directory here and went away there",
			base: files{"d": "1"}, mine: files{"d/a": "2"}, theirs: files{},
			out: files{"d/": "", "d/a": "2"}, results: map[string]Result{"d": Conflict},
		},
		{
			name: "both made a file",
			base: files{}, mine: files{"a": "1"}, theirs: files{"a": "2"},
			out: files{"a": "1", "a.ashlar-new": "2"}, results: map[string]Result{"a": Conflict},
		},
		{
			name: "both made a directory",
			base: files{}, mine: files{"d/a": "1"}, theirs: files{"d/b": "2"},
			out: files{"d/": "", "d/a": "1"}, results: map[string]Result{"d": Dropped, "d/a": Kept},
		},
		{
			name: "directory modes",
			base: files{"d/": "", "e/": "", "f/": ""}, mine: files{"d/": "#0700", "e/": "#0700", "f/": "#0700"}, theirs: files{"d/": "", "e/": "#0700", "f/": "#0750"},
			out: files{"d/": "#0700", "f/": "#0700"}, results: map[string]Result{"d": Kept, "e": Dropped, "f": Conflict},
		},
		{
			name: "what an older conflict left is replaced by what a newer one leaves",
			base: files{"a": "1"}, mine: files{"a": "2", "a.ashlar-new": "1"}, theirs: files{"a": "3"},
			out: files{"a": "2", "a.ashlar-new": "3"}, results: map[string]Result{"a": Conflict},
		},
		{
			name: "what an older conflict left stays until a person looks",
			base: files{"a": "3"}, mine: files{"a": "2", "a.ashlar-new": "3"}, theirs: files{"a": "3"},
			out: files{"a": "2", "a.ashlar-new": "3"}, results: map[string]Result{"a": Kept, "a.ashlar-new": Kept},
		},
		{
			name: "accounts by key, and the tools' backups are nobody's conflict",
			base: files{"passwd": "root:x:0:0::/root:/bin/sh\nold:x:10:10::/:\n", "passwd-": "1"},
			mine: files{"passwd": "root:x:0:0::/root:/bin/bash\nold:x:10:10::/:\nme:x:1000:1000::/home/me:\n", "passwd-": "2"}, theirs: files{"passwd": "root:x:0:0:root:/root:/bin/sh\nnew:x:11:11::/:\n", "passwd-": "3"},
			out:     files{"passwd": "root:x:0:0:root:/root:/bin/bash\nme:x:1000:1000::/home/me:\nnew:x:11:11::/:\n", "passwd-": "2"},
			results: map[string]Result{"passwd": Merged, "passwd-": Kept},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, c.base, c.mine, c.theirs)
			out, results := s.merge(t)
			if !maps.Equal(out, c.out) {
				t.Errorf("the new upper directory is\n%q, want\n%q", out, c.out)
			}
			if !maps.Equal(results, c.results) {
				t.Errorf("the report is\n%v, want\n%v", results, c.results)
			}
		})
	}
}

func TestMergeKeepsHardLinksOwnersTimesAndAttributes(t *testing.T) {
	s := newScene(t, files{"x": "x"}, files{"a": "#0640 one", "d/c": "c"}, files{"x": "x"})
	a := filepath.Join(s.MineUpper, "a")
	if err := os.Link(a, filepath.Join(s.MineUpper, "d/b")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(a, "user.note", []byte("hello"), 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(a, 7, 8); err != nil {
			t.Fatal(err)
		}
	}
	when := []unix.Timespec{{Sec: 1e9, Nsec: 5}, {Sec: 1e9, Nsec: 5}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, a, when, 0); err != nil {
		t.Fatal(err)
	}
	s.merge(t)
	in, err := read(a)
	if err != nil {
		t.Fatal(err)
	}
	one, err := read(filepath.Join(s.OutUpper, "a"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := read(filepath.Join(s.OutUpper, "d/b"))
	if err != nil {
		t.Fatal(err)
	}
	if one.inode == (inode{}) || one.inode != two.inode {
		t.Errorf("a and d/b are not one file any more: %v, %v", one.inode, two.inode)
	}
	if !one.meta.equal(in.meta) || one.mtime != in.mtime || one.xattrs["user.note"] != "hello" {
		t.Errorf("metadata is %+v, want %+v", one.meta, in.meta)
	}
}

func TestMergeDoesWhatIsPlanned(t *testing.T) {
	s := newScene(t, files{"a": "1", "b": "1", "c": "1"}, files{"a": "2", "b": "!"}, files{"a": "1", "b": "1", "c": "2"})
	report, err := Merge(s.MergeOptions)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, s.OutUpper), (files{"a": "2", "b": "!"}); !maps.Equal(got, want) {
		t.Errorf("it made %q, want %q", got, want)
	}
	if len(report.Items) != 2 || len(report.Conflicts()) != 0 {
		t.Errorf("it reports %+v", report)
	}
}

func TestMergeRefuses(t *testing.T) {
	t.Run("an output that is not empty", func(t *testing.T) {
		s := newScene(t, files{}, files{"a": "1"}, files{})
		files{"old": "x"}.write(t, s.OutUpper)
		if _, err := Merge(s.MergeOptions); err == nil {
			t.Error("merged over something")
		}
		if got := list(t, s.OutUpper); !maps.Equal(got, files{"old": "x"}) {
			t.Errorf("it now holds %q", got)
		}
	})
	t.Run("a redirected directory", func(t *testing.T) {
		s := newScene(t, files{"a/x": "1"}, files{"b/": ""}, files{"a/x": "1"})
		if err := unix.Setxattr(filepath.Join(s.MineUpper, "b"), "user.overlay.redirect", []byte("a"), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := Preview(s.MergeOptions); err == nil {
			t.Error("merged what is not what it seems")
		}
	})
	t.Run("a missing base", func(t *testing.T) {
		s := newScene(t, files{}, files{}, files{})
		s.BaseDir += "-gone"
		if _, err := Preview(s.MergeOptions); err == nil {
			t.Error("merged without a base")
		}
	})
}

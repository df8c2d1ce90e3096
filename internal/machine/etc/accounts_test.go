package etc

import (
	"slices"
	"strings"
	"testing"
)

func TestAccounts(t *testing.T) {
	j := func(lines ...string) string {
		if len(lines) == 0 {
			return ""
		}
		return strings.Join(lines, "\n") + "\n"
	}
	for _, c := range []struct {
		name, file         string
		base, mine, theirs string
		want               string
		conflicts          []string
	}{
		{
			name: "a user here, a user there", file: "/passwd",
			base: j("root:x:0:0::/:/bin/sh"), mine: j("root:x:0:0::/:/bin/sh", "me:x:1000:1000::/home/me:"), theirs: j("root:x:0:0::/:/bin/sh", "www:x:33:33::/:"),
			want: j("root:x:0:0::/:/bin/sh", "me:x:1000:1000::/home/me:", "www:x:33:33::/:"),
		},
		{
			name: "fields of one line", file: "/passwd",
			base: j("a:x:1:1:old:/:/bin/sh"), mine: j("a:x:1:1:old:/:/bin/bash"), theirs: j("a:x:1:1:new:/:/bin/sh"),
			want: j("a:x:1:1:new:/:/bin/bash"),
		},
		{
			name: "one field", file: "/passwd",
			base: j("a:x:1:1::/:/bin/sh"), mine: j("a:x:1:1::/:/bin/bash"), theirs: j("a:x:1:1::/:/bin/zsh"),
			want: j("a:x:1:1::/:/bin/bash"), conflicts: []string{`"a" changed here and by the new image`},
		},
		{
			name: "a password set here, a date there", file: "/shadow",
			base: j("root:*:1::::::"), mine: j("root:$y$abc:20::::::"), theirs: j("root:*:1:0:99999:7:::"),
			want: j("root:$y$abc:20:0:99999:7:::"),
		},
		{
			name: "members of a group", file: "/group",
			base: j("sudo:x:27:old,both"), mine: j("sudo:x:27:both,me"), theirs: j("sudo:x:27:old,both,theirs"),
			want: j("sudo:x:27:both,me,theirs"),
		},
		{
			name: "a group made on both sides", file: "/group",
			mine: j("docker:x:900:me"), theirs: j("docker:x:900:you"), want: j("docker:x:900:me,you"),
		},
		{
			name: "a group made on both sides with two numbers", file: "/group",
			mine: j("docker:x:900:me"), theirs: j("docker:x:901:"), want: j("docker:x:900:me"),
			conflicts: []string{`"docker" changed here and by the new image`},
		},
		{
			name: "administrators of a group", file: "/gshadow",
			base: j("g:!::"), mine: j("g:!:me:me"), theirs: j("g:!:you:"), want: j("g:!:me,you:me"),
		},
		{
			name: "a user removed there", file: "/passwd",
			base: j("a:x:1:1::/:", "b:x:2:2::/:"), mine: j("a:x:1:1::/:", "b:x:2:2::/home:"), theirs: j(),
			want: j("b:x:2:2::/home:"), conflicts: []string{`"b" changed here, removed by the new image`},
		},
		{
			name: "a user removed here", file: "/passwd",
			base: j("a:x:1:1::/:", "b:x:2:2::/:"), mine: j(), theirs: j("a:x:1:1::/:", "b:x:2:2::/new:"),
			want: j(), conflicts: []string{`"b" removed here, changed by the new image`},
		},
		{
			name: "a number that is taken", file: "/passwd",
			mine: j("me:x:999:999::/:"), theirs: j("new:x:999:5::/:"), want: j("me:x:999:999::/:", "new:x:999:5::/:"),
			conflicts: []string{`"new", new with this image, has a number that "me" has here`},
		},
		{
			name: "ranges", file: "/subuid",
			base: j("a:100000:65536"), mine: j("a:100000:65536", "a:900000:10", "b:165536:65536"), theirs: j("a:100000:65536", "c:231072:65536", "d:231000:10"),
			want:      j("a:100000:65536", "a:900000:10", "b:165536:65536", "c:231072:65536", "d:231000:10"),
			conflicts: []string{`"d", new with this image, has a number that "b" has here`},
		},
		{
			name: "comments, twins and lines of another kind stay", file: "/passwd",
			base: j("# c", "a:1"), mine: j("# mine", "# c", "a:1", "a:1", "+", "odd"), theirs: j("# c", "a:1", "# theirs"),
			want: j("# mine", "# c", "a:1", "a:1", "+", "odd", "# theirs"),
		},
	} {
		got, conflicts := accountFiles[c.file].merge(c.base, c.mine, c.theirs)
		if got != c.want || !slices.Equal(conflicts, c.conflicts) {
			t.Errorf("%s:\n%s%q\nwant\n%s%q", c.name, got, conflicts, c.want, c.conflicts)
		}
	}
}

func FuzzAccounts(f *testing.F) {
	f.Add("/group", "g:x:1:a,b\n", "g:x:1:a,c\n", "g:x:1:b\n#c\n")
	f.Add("/subuid", "a:1:2\n", "a:1:3\nb::\n", "a:1:2\n\n\n")
	f.Fuzz(func(t *testing.T, file, base, mine, theirs string) {
		a, ok := accountFiles[file]
		if !ok || strings.Contains(base+mine+theirs, "\x00") {
			return // what holds a zero byte is merged by nobody
		}
		merged, conflicts := a.merge(base, mine, base)
		if !sameLines(merged, mine) || len(conflicts) != 0 {
			t.Errorf("only the machine changed: %q of %q, %q", merged, mine, conflicts)
		}
		a.merge(base, mine, theirs)
	})
}

func sameLines(a, b string) bool {
	split := func(s string) []string {
		return slices.DeleteFunc(strings.Split(s, "\n"), func(l string) bool { return l == "" })
	}
	return slices.Equal(split(a), split(b))
}

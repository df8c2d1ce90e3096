package etc

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// accountFile says how lines of one of the files of users and groups are merged.
type accountFile struct {
	keys  int   // leading fields that name the line
	lists []int // fields that are comma-separated sets
	id    int   // field that no two lines should share; 0 for none
	span  bool  // fields 1 and 2 are a range that no two lines should share
}

// accountFiles are merged by key: passwd(5), group(5), shadow(5), gshadow(5),
// subuid(5), subgid(5). A user may have several ranges, so there the start
// belongs to the key.
var accountFiles = map[string]accountFile{
	"/passwd":  {keys: 1, id: 2},
	"/group":   {keys: 1, id: 2, lists: []int{3}},
	"/shadow":  {keys: 1},
	"/gshadow": {keys: 1, lists: []int{2, 3}},
	"/subuid":  {keys: 2, span: true},
	"/subgid":  {keys: 2, span: true},
}

// isBackup reports whether rel is the copy that shadow's tools keep of one of
// these files. It is nobody's configuration: the machine's stays, silently.
func isBackup(rel string) bool {
	name, ok := strings.CutSuffix(rel, "-")
	_, known := accountFiles[name]
	return ok && known
}

// table is one account file: its lines by key, in order.
type table struct {
	keys  []string
	lines map[string]string
}

func (f accountFile) parse(text string) table {
	t := table{lines: make(map[string]string)}
	seen := make(map[string]int)
	for _, line := range strings.Split(text, "\n") {
		if line == "" {
			continue
		}
		fields := strings.Split(line, ":")
		key := "\x00" + line // a comment, or what is no line of this file: itself
		if len(fields) > f.keys && !strings.HasPrefix(line, "#") {
			key = strings.Join(fields[:f.keys], ":")
		}
		// The same key again keeps its place: what the line means then is up
		// to the reader of the file, and stays as it was.
		seen[key]++
		if n := seen[key]; n > 1 {
			key += "\x00" + strconv.Itoa(n)
		}
		t.keys = append(t.keys, key)
		t.lines[key] = line
	}
	return t
}

// merge keeps the machine's order, adds what the new image adds at the end,
// and describes every line about which the two disagree.
func (f accountFile) merge(base, mine, theirs string) (merged string, conflicts []string) {
	b, u, t := f.parse(base), f.parse(mine), f.parse(theirs)
	var out []string
	for _, key := range u.keys {
		lu := u.lines[key]
		lb, inB := b.lines[key]
		lt, inT := t.lines[key]
		switch {
		case inT:
			line, clash := f.line(lb, lu, lt, inB)
			if clash {
				conflicts = append(conflicts, fmt.Sprintf("%q changed here and by the new image", name(key)))
			}
			out = append(out, line)
		case inB && lu == lb: // removed by the new image
		case inB:
			conflicts = append(conflicts, fmt.Sprintf("%q changed here, removed by the new image", name(key)))
			out = append(out, lu)
		default:
			out = append(out, lu)
		}
	}
	var added []string
	for _, key := range t.keys {
		if _, inU := u.lines[key]; inU {
			continue
		}
		lb, inB := b.lines[key]
		switch {
		case !inB:
			added = append(added, t.lines[key])
		case lb != t.lines[key]:
			conflicts = append(conflicts, fmt.Sprintf("%q removed here, changed by the new image", name(key)))
		}
	}
	conflicts = append(conflicts, f.collisions(out, added)...)
	out = append(out, added...)
	if len(out) == 0 {
		return "", conflicts
	}
	return strings.Join(out, "\n") + "\n", conflicts
}

// name is a key for people.
func name(key string) string {
	n, _, _ := strings.Cut(strings.TrimPrefix(key, "\x00"), "\x00")
	n, _, _ = strings.Cut(n, ":")
	return n
}

// line merges one line by fields; where both changed one, mine stays.
func (f accountFile) line(b, u, t string, hasBase bool) (line string, clash bool) {
	switch {
	case u == t, hasBase && t == b:
		return u, false
	case hasBase && u == b:
		return t, false
	}
	fb, fu, ft := strings.Split(b, ":"), strings.Split(u, ":"), strings.Split(t, ":")
	if !hasBase {
		// Both made it: only the members of a group add up.
		fb = make([]string, len(fu))
		copy(fb, fu[:f.keys])
	}
	if len(fu) != len(ft) || len(fb) != len(fu) {
		return u, true
	}
	for i := range fu {
		switch {
		case slices.Contains(f.lists, i):
			fu[i] = mergeSet(fb[i], fu[i], ft[i])
		case fu[i] == ft[i], hasBase && ft[i] == fb[i]:
		case hasBase && fu[i] == fb[i]:
			fu[i] = ft[i]
		default:
			clash = true
		}
	}
	return strings.Join(fu, ":"), clash
}

// mergeSet keeps mine's order, takes out what theirs took out, and adds what
// theirs added.
func mergeSet(b, u, t string) string {
	set := func(s string) []string {
		return slices.DeleteFunc(strings.Split(s, ","), func(m string) bool { return m == "" })
	}
	sb, su, st := set(b), set(u), set(t)
	out := slices.DeleteFunc(slices.Clone(su), func(m string) bool {
		return slices.Contains(sb, m) && !slices.Contains(st, m)
	})
	for _, m := range st {
		if !slices.Contains(sb, m) && !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return strings.Join(out, ",")
}

// collisions finds lines that the new image adds and whose number, or range of
// numbers, a line of this machine has already. Both stay: taking either away
// would change who owns files.
func (f accountFile) collisions(mine, added []string) (conflicts []string) {
	type span struct{ from, to uint64 }
	numbers := func(line string) (span, bool) {
		fields := strings.Split(line, ":")
		number := func(i int) (uint64, bool) {
			if i >= len(fields) {
				return 0, false
			}
			n, err := strconv.ParseUint(fields[i], 10, 32)
			return n, err == nil
		}
		if f.span {
			from, ok1 := number(1)
			n, ok2 := number(2)
			return span{from, from + n}, ok1 && ok2 && n > 0
		}
		id, ok := number(f.id)
		return span{id, id + 1}, ok
	}
	if f.id == 0 && !f.span {
		return nil
	}
	for _, a := range added {
		sa, ok := numbers(a)
		if !ok {
			continue
		}
		for _, m := range mine {
			if sm, ok := numbers(m); ok && sa.from < sm.to && sm.from < sa.to {
				conflicts = append(conflicts, fmt.Sprintf("%q, new with this image, has a number that %q has here",
					name(a), name(m)))
				break
			}
		}
	}
	return conflicts
}

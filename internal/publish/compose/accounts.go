package compose

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/publish/recipe"
)

// maxAccountFile is how large an account file may be, in bytes.
const maxAccountFile = 4 << 20

// accounts are the four account files of a tree: passwd(5), group(5),
// shadow(5), gshadow(5), each row split at its colons.
type accounts struct{ passwd, group, shadow, gshadow *table }

type table struct {
	path   string
	fields int
	rows   [][]string
}

func (a *accounts) tables() []*table { return []*table{a.passwd, a.group, a.shadow, a.gshadow} }

func (t *table) row(name string) []string {
	for _, r := range t.rows {
		if r[0] == name {
			return r
		}
	}
	return nil
}

// set gives the row of that name, made from the given fields if it is new.
func (t *table) set(fields ...string) []string {
	if r := t.row(fields[0]); r != nil {
		return r
	}
	t.rows = append(t.rows, fields)
	return fields
}

// readAccounts reads the account files of t; files that are not there are empty.
func (b *builder) readAccounts(t *tree.Tree) (*accounts, error) {
	a := &accounts{
		&table{path: "/etc/passwd", fields: 7}, &table{path: "/etc/group", fields: 4},
		&table{path: "/etc/shadow", fields: 9}, &table{path: "/etc/gshadow", fields: 4},
	}
	for _, tab := range a.tables() {
		n := followFile(t, tab.path)
		if n == nil {
			continue
		}
		text, err := b.spool.content(n, maxAccountFile)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", tab.path, err)
		}
		for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
			if line == "" {
				continue
			}
			f := strings.Split(line, ":")
			if len(f) != tab.fields {
				return nil, fmt.Errorf("%q line %d has %d fields, not %d", tab.path, i+1, len(f), tab.fields)
			}
			tab.rows = append(tab.rows, f)
		}
	}
	for _, tab := range []*table{a.passwd, a.group} {
		for _, r := range tab.rows {
			if _, err := strconv.ParseUint(r[2], 10, 32); err != nil {
				return nil, fmt.Errorf("%q: id of %q: %w", tab.path, r[0], err)
			}
		}
	}
	return a, nil
}

// setAccounts adds the recipe's users and groups, gives every account the id
// that the lock or the recipe has for it, and writes the files in a fixed order.
func (b *builder) setAccounts(t *tree.Tree) error {
	a, err := b.readAccounts(t)
	if err != nil {
		return err
	}
	if len(a.passwd.rows) == 0 && len(b.o.Recipe.Users) == 0 {
		return nil // a tree without accounts
	}
	r := b.o.Recipe
	for _, g := range recipeGroups(r) {
		a.group.set(g.Name, "x", fmt.Sprint(*g.GID), "")
		a.gshadow.set(g.Name, "!", "", "")
	}
	for _, u := range r.Users {
		if err := a.setUser(u); err != nil {
			return err
		}
	}
	wantUsers, wantGroups := b.wantedIDs()
	uids, err := renumber(a.passwd, wantUsers)
	if err != nil {
		return fmt.Errorf("users: %w", err)
	}
	gids, err := renumber(a.group, wantGroups)
	if err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	for _, row := range a.passwd.rows {
		row[3] = mapText(row[3], gids)
	}
	for _, u := range r.Users { // after groups have their final numbers
		if err := a.setPrimaryGroup(u); err != nil {
			return err
		}
	}
	chown(t, uids, gids)
	b.recordIDs(a)
	return b.writeAccounts(t, a)
}

// recipeGroups lists the groups of a recipe: its own, and one for each user
// who has no other primary group.
func recipeGroups(r *recipe.Recipe) []recipe.Group {
	list := slices.Clone(r.Groups)
	for _, u := range r.Users {
		if u.UID != nil && u.Group == "" && !slices.ContainsFunc(list, func(g recipe.Group) bool { return g.Name == u.Name }) {
			list = append(list, recipe.Group{Name: u.Name, GID: u.UID})
		}
	}
	return list
}

// setUser adds a user of the recipe, or changes what the recipe says about one
// that a package has made.
func (a *accounts) setUser(u recipe.User) error {
	if u.UID == nil && a.passwd.row(u.Name) == nil {
		return fmt.Errorf("user %q is not in the tree and has no uid in the recipe", u.Name)
	}
	uid := uint32(0)
	if u.UID != nil {
		uid = *u.UID
	}
	row := a.passwd.set(u.Name, "x", fmt.Sprint(uid), fmt.Sprint(uid), u.Comment, homeOf(u), shellOf(u))
	for i, v := range map[int]string{4: u.Comment, 5: u.Home, 6: u.Shell} {
		if v != "" {
			row[i] = v
		}
	}
	shadow := a.shadow.set(u.Name, "!*", "", "", "", "", "", "", "")
	if u.Password != nil {
		shadow[1] = *u.Password
	}
	for _, g := range u.Groups {
		group := a.group.row(g)
		if group == nil {
			return fmt.Errorf("user %q: there is no group %q", u.Name, g)
		}
		for _, row := range [][]string{group, a.gshadow.set(g, "!", "", "")} {
			row[3] = addMember(row[3], u.Name)
		}
	}
	return nil
}

func (a *accounts) setPrimaryGroup(u recipe.User) error {
	name := u.Group
	if name == "" {
		name = u.Name
	}
	g := a.group.row(name)
	if g == nil {
		return fmt.Errorf("user %q: there is no group %q", u.Name, name)
	}
	a.passwd.row(u.Name)[3] = g[2]
	return nil
}

func homeOf(u recipe.User) string {
	if u.Home == "" {
		return "/nonexistent"
	}
	return u.Home
}

func shellOf(u recipe.User) string {
	if u.Shell == "" {
		return "/usr/sbin/nologin"
	}
	return u.Shell
}

func addMember(list, name string) string {
	var members []string
	if list != "" {
		members = strings.Split(list, ",")
	}
	if !slices.Contains(members, name) {
		members = append(members, name)
	}
	return strings.Join(members, ",")
}

// wantedIDs are the ids that names must have: those of the lock, or of the
// previous release's; the recipe's own go over them.
func (b *builder) wantedIDs() (users, groups map[string]uint32) {
	users, groups = make(map[string]uint32), make(map[string]uint32)
	from := b.o.Lock
	if from == nil {
		from = b.o.Previous
	}
	if from != nil {
		for _, u := range from.Users {
			users[u.Name] = u.UID
		}
		for _, g := range from.Groups {
			groups[g.Name] = g.GID
		}
	}
	for _, u := range b.o.Recipe.Users {
		if u.UID != nil {
			users[u.Name] = *u.UID
		}
	}
	for _, g := range recipeGroups(b.o.Recipe) {
		groups[g.Name] = *g.GID
	}
	return users, groups
}

// recordIDs puts the ids of the tree into the result and its lock.
func (b *builder) recordIDs(a *accounts) {
	b.result.Users, b.result.Groups = make(map[string]uint32), make(map[string]uint32)
	b.lock.Users, b.lock.Groups = nil, nil
	for _, r := range a.passwd.rows {
		b.result.Users[r[0]] = idOf(r)
		b.lock.Users = append(b.lock.Users, recipe.LockUser{Name: r[0], UID: idOf(r)})
	}
	for _, r := range a.group.rows {
		b.result.Groups[r[0]] = idOf(r)
		b.lock.Groups = append(b.lock.Groups, recipe.LockGroup{Name: r[0], GID: idOf(r)})
	}
	sort.Slice(b.lock.Users, func(i, j int) bool { return b.lock.Users[i].Name < b.lock.Users[j].Name })
	sort.Slice(b.lock.Groups, func(i, j int) bool { return b.lock.Groups[i].Name < b.lock.Groups[j].Name })
}

// idOf is a row's id, checked when it was read.
func idOf(row []string) uint32 {
	id, _ := strconv.ParseUint(row[2], 10, 32)
	return uint32(id)
}

// writeAccounts writes the files back, sorted by id and name: the order in
// which packages made their accounts is no property of an image. Nor is the
// day: shadow's date of the last change stays empty, which also means that
// passwords do not age (shadow(5)).
func (b *builder) writeAccounts(t *tree.Tree, a *accounts) error {
	for _, tab := range []*table{a.passwd, a.group} {
		sort.SliceStable(tab.rows, func(i, j int) bool {
			x, y := tab.rows[i], tab.rows[j]
			if idOf(x) != idOf(y) {
				return idOf(x) < idOf(y)
			}
			return x[0] < y[0]
		})
	}
	for _, pair := range [][2]*table{{a.shadow, a.passwd}, {a.gshadow, a.group}} {
		place := make(map[string]int)
		for i, r := range pair[1].rows {
			place[r[0]] = i
		}
		rows := pair[0].rows
		sort.SliceStable(rows, func(i, j int) bool { return place[rows[i][0]] < place[rows[j][0]] })
	}
	for _, r := range a.shadow.rows {
		r[2] = ""
	}
	for _, tab := range a.tables() {
		var text strings.Builder
		for _, r := range tab.rows {
			text.WriteString(strings.Join(r, ":") + "\n")
		}
		n := followFile(t, tab.path)
		if n == nil {
			mode, gid := uint32(0o644), uint32(0)
			if tab == a.shadow || tab == a.gshadow {
				mode = 0o640
				if g := a.group.row("shadow"); g != nil {
					gid = idOf(g)
				}
			}
			n = &tree.Node{Mode: tree.TypeRegular | mode, GID: gid}
			if err := put(t, tab.path, n); err != nil {
				return err
			}
		}
		if !n.Inode().IsRegular() {
			return errors.New(tab.path + " is not a regular file")
		}
		if err := b.spool.fill(n.Inode(), []byte(text.String())); err != nil {
			return err
		}
	}
	return nil
}

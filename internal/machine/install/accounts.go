package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// firstID is the number of the first user and of the group of the same name.
const firstID = 1000

// accountFiles are the files that know users, by name below /etc.
var accountFiles = []string{"passwd", "group", "shadow", "gshadow", "subuid", "subgid"}

// accounts are an image's account files. A file that the image does not have is nil.
type accounts struct {
	files map[string][]byte
}

func readAccounts(img *image) (*accounts, error) {
	a := &accounts{map[string][]byte{}}
	for _, name := range accountFiles {
		b, err := img.file("/usr/etc/" + name)
		if errors.Is(err, fs.ErrNotExist) && name != "passwd" && name != "group" {
			continue
		}
		if err != nil {
			return nil, err
		}
		a.files[name] = b
	}
	return a, nil
}

// lines are a file's lines, each as its fields.
func (a *accounts) lines(name string) (all [][]string) {
	for line := range bytes.Lines(a.files[name]) {
		all = append(all, strings.Split(strings.TrimRight(string(line), "\n"), ":"))
	}
	return all
}

// groups are the groups whose members may become root, of those that the image has.
func (a *accounts) groups() []string {
	there := []string{}
	for _, name := range []string{"sudo", "wheel"} {
		if slices.ContainsFunc(a.lines("group"), func(f []string) bool { return f[0] == name }) {
			there = append(there, name)
		}
	}
	return there
}

// mayAdd refuses a name, or a number, that the image uses for somebody else.
func (a *accounts) mayAdd(name string) error {
	for _, file := range []string{"passwd", "group"} {
		for _, f := range a.lines(file) {
			switch {
			case f[0] == name:
				return fmt.Errorf("field %q: the image has %q in its %q already", "user.name", name, file)
			case len(f) > 2 && f[2] == strconv.Itoa(firstID):
				return fmt.Errorf("the image has given the number %d to %q in its %q, and the first user gets it", firstID, f[0], file)
			}
		}
	}
	return nil
}

// add adds a user, a member of groups, whose password has that hash.
func (a *accounts) add(u *PlanUser, hash string, day int64) {
	line := func(file, format string, args ...any) {
		b, ok := a.files[file]
		if !ok {
			return
		}
		if len(b) > 0 && b[len(b)-1] != '\n' {
			b = append(b, '\n')
		}
		a.files[file] = append(slices.Clip(b), fmt.Sprintf(format+"\n", args...)...)
	}
	line("passwd", "%s:x:%d:%[2]d:%s:/home/%[1]s:/bin/bash", u.Name, firstID, u.FullName)
	line("shadow", "%s:%s:%d:0:99999:7:::", u.Name, hash, day)
	line("group", "%s:x:%d:", u.Name, firstID)
	line("gshadow", "%s:!::", u.Name)
	line("subuid", "%s:100000:65536", u.Name)
	line("subgid", "%s:100000:65536", u.Name)
	for _, file := range []string{"group", "gshadow"} {
		if _, ok := a.files[file]; ok {
			a.join(file, u)
		}
	}
}

// join makes the user a member of its groups: the last field of their lines.
func (a *accounts) join(file string, u *PlanUser) {
	var out bytes.Buffer
	for line := range bytes.Lines(a.files[file]) {
		text := strings.TrimRight(string(line), "\n")
		name, _, _ := strings.Cut(text, ":")
		if slices.Contains(u.Groups, name) {
			if !strings.HasSuffix(text, ":") {
				text += ","
			}
			text += u.Name
		}
		out.WriteString(text + "\n")
	}
	a.files[file] = out.Bytes()
}

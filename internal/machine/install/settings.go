package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// settings writes what a machine has of its own: files of /etc, into the
// deployment's upper directory, and the user's home. It runs before that system
// ever did, so nobody has the directory mounted.
type settings struct {
	plan  *Plan
	upper string // the deployment's /etc
	vars  string // /var
}

// writeSettings writes all of it.
func (in *Installer) writeSettings(p *Plan, upper, vars string) error {
	s := &settings{p, upper, vars}
	if err := os.MkdirAll(upper, 0o755); err != nil {
		return err
	}
	if err := s.system(); err != nil {
		return fmt.Errorf("writing the machine's settings: %w", err)
	}
	if p.User == nil {
		return nil
	}
	hash := p.answers.User.PasswordHash
	if hash == "" {
		hash = "!" // no password; keys are another way
	}
	if word := p.answers.User.Password; word != "" {
		var err error
		if hash, err = hashPassword(word, in.random()); err != nil {
			return err
		}
	}
	if err := s.user(hash, in.now()); err != nil {
		return fmt.Errorf("making the user %q: %w", p.User.Name, err)
	}
	return nil
}

func (in *Installer) now() time.Time {
	if in.Now != nil {
		return in.Now()
	}
	return time.Now()
}

// system writes the files of /etc. A layout is written twice: for systemd's
// programs and for Debian's console-setup, X11 and its like.
func (s *settings) system() error {
	w := s.plan.System
	if w.Hostname != "" {
		if err := s.file("hostname", w.Hostname+"\n"); err != nil {
			return err
		}
	}
	if w.Locale != "" {
		if err := s.file("locale.conf", "LANG="+w.Locale+"\n"); err != nil {
			return err
		}
	}
	if w.Keyboard != "" {
		layout, variant, _ := strings.Cut(w.Keyboard, "-")
		if err := s.file("vconsole.conf", fmt.Sprintf("KEYMAP=%s\nXKBLAYOUT=%s\nXKBVARIANT=%s\n", w.Keyboard, layout, variant)); err != nil {
			return err
		}
		if err := s.file("default/keyboard", fmt.Sprintf("XKBMODEL=\"pc105\"\nXKBLAYOUT=%q\nXKBVARIANT=%q\nXKBOPTIONS=\"\"\nBACKSPACE=\"guess\"\n", layout, variant)); err != nil {
			return err
		}
	}
	if w.Timezone != "" {
		return s.link("localtime", "../usr/share/zoneinfo/"+w.Timezone)
	}
	return nil
}

// user adds the first user and makes the home directory.
func (s *settings) user(hash string, now time.Time) error {
	a, err := readAccounts(s.plan.image)
	if err != nil {
		return err
	}
	a.add(s.plan.User, hash, now.Unix()/(24*60*60))
	for _, name := range accountFiles {
		if b, ok := a.files[name]; ok {
			if err := s.file(name, string(b)); err != nil {
				return err
			}
		}
	}
	home := filepath.Join(s.vars, "home", s.plan.User.Name)
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return err
	}
	if _, err := os.Lstat(home); err == nil {
		return s.sshKeys(home) // the /var that was kept has it
	}
	return s.makeHome(home)
}

// makeHome makes a home directory under another name. It has its own when all of it is on
// the disk, so that what is there under that is somebody's, also after a cut.
func (s *settings) makeHome(home string) error {
	tmp := home + partial
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := s.ownedDir(tmp, 0o700); err != nil {
		return err
	}
	if skel := s.plan.image.inode("/usr/etc/skel"); skel != nil {
		if err := s.copySkel(skel, "/usr/etc/skel", tmp); err != nil {
			return err
		}
	}
	if err := s.sshKeys(tmp); err != nil {
		return err
	}
	if err := syncFS(tmp); err != nil {
		return err
	}
	return os.Rename(tmp, home)
}

func (s *settings) sshKeys(home string) error {
	keys := s.plan.answers.User.SSHKeys
	if len(keys) == 0 {
		return nil
	}
	dir := filepath.Join(home, ".ssh")
	if err := s.ownedDir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	name := filepath.Join(dir, "authorized_keys")
	old, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	all := bytes.Clone(old)
	if len(all) > 0 && !bytes.HasSuffix(all, []byte("\n")) {
		all = append(all, '\n')
	}
	for _, key := range keys {
		if !slices.Contains(strings.Split(string(old), "\n"), key) {
			all = append(all, key+"\n"...)
		}
	}
	return s.replace(name, all, 0o600)
}

// replace gives a user's file another content: after a cut it has the one or the other.
func (s *settings) replace(name string, b []byte, mode fs.FileMode) error {
	tmp := name + partial
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.ownedFile(tmp, b, mode); err != nil {
		return err
	}
	if err := syncFile(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		return err
	}
	return syncFile(filepath.Dir(name))
}

// copySkel copies the image's /etc/skel, its files and links.
func (s *settings) copySkel(dir *tree.Node, from, to string) error {
	for _, n := range dir.Children {
		source, target := path.Join(from, n.Name), filepath.Join(to, n.Name)
		inode, err := n.Inode(), error(nil)
		switch {
		case n.IsDir():
			if err = s.ownedDir(target, fs.FileMode(inode.Mode&0o777)); err == nil {
				err = s.copySkel(n, source, target)
			}
		case inode.IsRegular():
			var b []byte
			if b, err = s.plan.image.file(source); err == nil {
				err = s.ownedFile(target, b, fs.FileMode(inode.Mode&0o777))
			}
		case inode.IsSymlink():
			if err = os.Symlink(inode.Target, target); err == nil {
				err = os.Lchown(target, firstID, firstID)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *settings) ownedDir(name string, mode fs.FileMode) error {
	if err := os.Mkdir(name, mode); err != nil {
		return err
	}
	return own(name, firstID, firstID, mode)
}

func (s *settings) ownedFile(name string, b []byte, mode fs.FileMode) error {
	if err := os.WriteFile(name, b, 0o600); err != nil {
		return err
	}
	return own(name, firstID, firstID, mode)
}

// own sets owner and mode, whatever the umask; the owner first, which takes bits of the mode away.
func own(name string, uid, gid int, mode fs.FileMode) error {
	if err := os.Lchown(name, uid, gid); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}

// file writes a file of /etc with the owner and the mode that the image's own has.
func (s *settings) file(name, content string) error {
	if err := s.parents(name); err != nil {
		return err
	}
	uid, gid, mode := 0, 0, fs.FileMode(0o644)
	if n := s.plan.image.inode("/usr/etc/" + name); n != nil && n.IsRegular() {
		uid, gid, mode = int(n.UID), int(n.GID), fs.FileMode(n.Mode&0o777)
	}
	target := filepath.Join(s.upper, name)
	if err := os.WriteFile(target, []byte(content), 0o600); err != nil {
		return err
	}
	return own(target, uid, gid, mode)
}

func (s *settings) link(name, target string) error {
	if err := s.parents(name); err != nil {
		return err
	}
	return os.Symlink(target, filepath.Join(s.upper, name))
}

// parents makes the directories of a name as the image has them: a directory of an
// overlay's upper side shows its own owner and mode.
func (s *settings) parents(name string) error {
	dir := path.Dir(name)
	if dir == "." {
		return nil
	}
	if err := s.parents(dir); err != nil {
		return err
	}
	target := filepath.Join(s.upper, dir)
	if err := os.Mkdir(target, 0o755); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	if n := s.plan.image.inode("/usr/etc/" + dir); n != nil {
		return own(target, int(n.UID), int(n.GID), fs.FileMode(n.Mode&0o777))
	}
	return nil
}

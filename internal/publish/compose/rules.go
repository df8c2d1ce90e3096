package compose

import (
	"fmt"
	"path"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// dropVolatile takes out what a build leaves behind and no image may have:
// logs, caches, keys and ids of the machine that built it, the backups that
// editing account files makes, compiled Python.
func (b *builder) dropVolatile(t *tree.Tree) error {
	for _, dir := range []string{
		"/dev", "/proc", "/run", "/sys", "/tmp", "/media", "/mnt", "/var/tmp", "/var/backups",
		"/var/lib/apt/lists", "/var/lib/systemd/deb-systemd-helper-enabled", "/var/lib/systemd/deb-systemd-user-helper-enabled",
		"/var/lib/systemd/deb-systemd-helper-masked", "/var/lib/systemd/deb-systemd-user-helper-masked",
	} {
		removeChildren(t.Lookup(dir), nil)
	}
	keepDirectories(t.Lookup("/var/log"))
	if cache := t.Lookup("/var/cache"); cache != nil {
		removeChildren(cache, (*tree.Node).IsDir)
		for _, c := range cache.Children {
			removeChildren(c, nil)
		}
	}
	for _, file := range []string{
		"/etc/machine-id", "/var/lib/dbus/machine-id", "/var/lib/systemd/random-seed", "/etc/.pwd.lock",
		"/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-",
		"/etc/mtab~", "/etc/apt/apt.conf.d/99mmdebstrap", "/etc/dpkg/dpkg.cfg.d/99mmdebstrap",
		"/var/lib/apt/extended_states", "/.dockerenv",
		"/var/lib/systemd/deb-systemd-helper-enabled", "/var/lib/systemd/deb-systemd-user-helper-enabled",
		"/var/lib/systemd/deb-systemd-helper-masked", "/var/lib/systemd/deb-systemd-user-helper-masked",
	} {
		remove(t, file)
	}
	if ssh := t.Lookup("/etc/ssh"); ssh != nil {
		removeChildren(ssh, func(n *tree.Node) bool { return !strings.HasPrefix(n.Name, "ssh_host_") })
	}
	if follow(t, "/usr/bin/apt-get") == nil {
		remove(t, "/etc/apt")
		remove(t, "/var/lib/apt")
		remove(t, "/var/cache/apt")
		remove(t, "/var/log/apt")
	} else {
		remove(t, "/etc/apt/sources.list")
	}
	dropCompiledPython(t.Root)
	return nil
}

// keepDirectories empties a directory of everything but directories.
func keepDirectories(dir *tree.Node) {
	removeChildren(dir, (*tree.Node).IsDir)
	if dir != nil {
		for _, c := range dir.Children {
			keepDirectories(c)
		}
	}
}

// dropCompiledPython removes .pyc files: they carry times, and Python does without.
func dropCompiledPython(dir *tree.Node) {
	removeChildren(dir, func(n *tree.Node) bool {
		return n.Name != "__pycache__" && !(strings.HasSuffix(n.Name, ".pyc") && !n.IsDir())
	})
	for _, c := range dir.Children {
		if c.IsDir() {
			dropCompiledPython(c)
		}
	}
}

// maskedUnits do what has no place in a sealed system: they would write into
// /etc what the image already has, keep copies of a package database that
// cannot change, or install a boot loader beside the agent.
var maskedUnits = []string{
	"systemd-update-done.service", "ldconfig.service", "systemd-hwdb-update.service",
	"systemd-journal-catalog-update.service", "systemd-boot-update.service",
	"dpkg-db-backup.timer", "apt-daily.timer", "apt-daily-upgrade.timer",
}

// links of the root and of /usr that lead to writable places (DESIGN §3).
var links = []struct{ from, to string }{
	{"/home", "/var/home"}, {"/root", "/var/roothome"}, {"/srv", "/var/srv"}, {"/opt", "/var/opt"}, {"/mnt", "/var/mnt"},
	{"/usr/local", "/var/usrlocal"},
}

// mountPoints are the directories of the root that something is mounted on.
var mountPoints = []struct {
	path string
	mode uint32
}{
	{"/etc", 0o755}, {"/var", 0o755}, {"/sysroot", 0o755}, {"/efi", 0o755}, {"/boot", 0o755}, {"/proc", 0o555},
	{"/sys", 0o555}, {"/dev", 0o755}, {"/run", 0o755}, {"/tmp", 0o1777}, {"/media", 0o755},
}

// layOutRoot moves what users write to into /var, leaves links behind, and
// makes every directory of the root that a machine needs.
func (b *builder) layOutRoot(t *tree.Tree) error {
	for _, unit := range maskedUnits {
		if _, n := findUnit(t, unit); n != nil {
			disable(t, unit)
			if err := putSymlink(t, "/etc/systemd/system/"+unit, "/dev/null"); err != nil {
				return err
			}
		}
	}
	for _, l := range links {
		if err := moveBehindLink(t, l.from, l.to); err != nil {
			return err
		}
	}
	removeChildren(t.Lookup("/boot"), nil)
	for _, name := range []string{"vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old", "lost+found"} {
		remove(t, "/"+name)
	}
	for _, m := range mountPoints {
		dir, err := ensureDir(t, m.path)
		if err != nil {
			return fmt.Errorf("%q: %w", m.path, err)
		}
		dir.Mode, dir.UID, dir.GID = tree.TypeDir|m.mode, 0, 0
	}
	// systemd's home.conf makes /home and /srv directories; here they are links.
	remove(t, "/usr/lib/tmpfiles.d/home.conf")
	// As old as /usr, so /etc is never in need of an update (ConditionNeedsUpdate
	// in systemd.unit(5)): nothing is generated into it at boot.
	if err := b.putFile(t, "/etc/.updated", 0o644, nil); err != nil {
		return err
	}
	// An empty machine-id is not a first boot (machine-id(5)): systemd fills it
	// in, and does not run its presets over what the image has switched.
	return b.putFile(t, "/etc/machine-id", 0o444, nil)
}

// moveBehindLink makes the directory from a symbolic link to its contents' new
// place; one that is such a link already stays.
func moveBehindLink(t *tree.Tree, from, to string) error {
	n := t.Lookup(from)
	if n != nil && n.IsSymlink() {
		return nil
	}
	if n != nil && !n.IsDir() {
		return fmt.Errorf("%q is not a directory", from)
	}
	if n == nil {
		n = &tree.Node{Mode: tree.TypeDir | 0o755, Nlink: 1}
	}
	if old := t.Lookup(to); old != nil {
		if !old.IsDir() {
			return fmt.Errorf("%q is not a directory", to)
		}
		for _, c := range old.Children {
			if n.Child(c.Name) != nil {
				return fmt.Errorf("%q is in %q and in %q", c.Name, from, to)
			}
			n.Add(c)
		}
		old.Children = nil
	}
	parent, err := ensureDir(t, path.Dir(from))
	if err != nil {
		return err
	}
	parent.Remove(n.Name)
	if err := put(t, to, n); err != nil {
		return err
	}
	target := strings.TrimPrefix(to, "/")
	if depth := strings.Count(from, "/") - 1; depth > 0 {
		target = strings.Repeat("../", depth) + target
	}
	return putSymlink(t, from, target)
}

// moveEtc moves /etc to /usr/etc and leaves an empty directory for the
// overlay that a machine mounts there.
func (b *builder) moveEtc(t *tree.Tree) error {
	if t.Lookup("/usr/etc") != nil {
		return fmt.Errorf("%q is in the tree already", "/usr/etc")
	}
	etc := t.Root.Remove("etc")
	usr, err := ensureDir(t, "/usr")
	if err != nil {
		return err
	}
	usr.Add(etc)
	t.Root.Add(&tree.Node{Name: "etc", Mode: tree.TypeDir | 0o755, Nlink: 1})
	return nil
}

// normalise gives every inode the lock's time, and every hard link's inode to
// the first of its names in the order of the tree, because names may have
// been moved or removed since they were read.
func (b *builder) normalise(t *tree.Tree) error {
	when := tree.Time{Sec: b.lock.Epoch}
	firsts := make(map[*tree.Node]*tree.Node) // inode as it was → its first name
	counts := make(map[*tree.Node]uint32)
	return t.Walk(func(p string, n *tree.Node) error {
		n.Mtime = when
		if n.IsDir() {
			return nil
		}
		old := n.Inode()
		first, seen := firsts[old]
		if !seen {
			if n.HardLink != nil {
				// The name that held the inode is gone, or comes later: its
				// metadata moves here.
				name := n.Name
				*n = *old
				n.Name, n.Mtime, n.HardLink = name, when, nil
			}
			firsts[old] = n
			counts[n] = 1
			n.Nlink = 1
			if old != n {
				old.HardLink = n // should it come later, it is a link now
				firsts[n] = n
			}
			return nil
		}
		counts[first]++
		first.Nlink = counts[first]
		*n = tree.Node{Name: n.Name, HardLink: first}
		return nil
	})
}

package compose

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/publish/recipe"
)

// writeAccountsHook writes the script that runs when the essential packages
// are installed and before all others: the recipe's accounts exist before
// any package can take their ids, and nothing of this machine's network
// configuration is left for packages to find.
func (b *builder) writeAccountsHook() (string, error) {
	var s strings.Builder
	s.WriteString(`#!/bin/sh
set -eu
root=$1
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
add() { grep -q "^${2%%:*}:" "$root/etc/$1" || printf '%s\n' "$2" >> "$root/etc/$1"; }
`)
	add := func(file, line string) { fmt.Fprintf(&s, "add %s %s\n", file, shellQuote(line)) }
	for _, g := range recipeGroups(b.o.Recipe) {
		add("group", fmt.Sprintf("%s:x:%d:", g.Name, *g.GID))
	}
	for _, u := range b.o.Recipe.Users {
		if u.UID != nil {
			// The primary group by number would have to be looked up; it is set later, exactly.
			add("passwd", fmt.Sprintf("%s:x:%d:%d:%s:%s:%s", u.Name, *u.UID, *u.UID, u.Comment, homeOf(u), shellOf(u)))
			add("shadow", u.Name+":!*:::::::")
		}
	}
	return b.writeScript("accounts.sh", s.String())
}

// writeFinishHook writes the script that runs last, with the tree complete:
// the recipe's own scripts, then what needs the tree's own programs.
func (b *builder) writeFinishHook() (string, error) {
	var s strings.Builder
	s.WriteString("#!/bin/sh\nset -eu\nroot=$1\n")
	if len(b.o.Recipe.Run) > 0 {
		files, err := b.stageFiles()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&s, "tar -C \"$root\" --keep-directory-symlink -xpf %s\n", shellQuote(files))
	}
	for i, run := range b.o.Recipe.Run {
		text, err := scriptText(run)
		if err != nil {
			return "", err
		}
		path, err := b.writeScript(fmt.Sprintf("run-%d", i), text)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&s, "cp %s \"$root/run/ashlar-script\"\n", shellQuote(path))
		fmt.Fprintf(&s, "chroot \"$root\" /run/ashlar-script >&2\nrm -f \"$root/run/ashlar-script\"\n")
	}
	if b.o.Recipe.Modules == recipe.ModulesUncompressed {
		s.WriteString(uncompressModules)
	}
	return b.writeScript("finish.sh", s.String())
}

// uncompressModules unpacks kernel modules and lets the tree's own depmod,
// whose version the lock fixes, write its index again.
const uncompressModules = `
for dir in "$root"/usr/lib/modules/*/; do
	[ -d "$dir/kernel" ] || continue
	find "$dir" -name '*.ko.xz' -print0 | xargs -0 -r -n 64 -P 2 xz -d
	find "$dir" -name '*.ko.gz' -print0 | xargs -0 -r -n 64 -P 2 gzip -d
	find "$dir" -name '*.ko.zst' -print0 | xargs -0 -r -n 64 -P 2 zstd -q -d --rm
	if [ -x "$root/usr/sbin/depmod" ]; then chroot "$root" depmod -a "$(basename "$dir")"; fi
done
`

// scriptText gives the script with a first line that says what runs it.
func scriptText(run recipe.Script) (string, error) {
	text := run.Command
	if run.Source != "" {
		data, err := os.ReadFile(run.Source)
		if err != nil {
			return "", fmt.Errorf("the recipe's script: %w", err)
		}
		text = string(data)
	}
	if !strings.HasPrefix(text, "#!") {
		text = "#!/bin/sh -e\n" + text
	}
	return text, nil
}

// stageFiles writes the recipe's files as a tar for scripts to find in the
// tree. Owners are set later, when the accounts are known.
func (b *builder) stageFiles() (path string, err error) {
	path = filepath.Join(b.scratch, "files.tar")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	tw := tar.NewWriter(f)
	for _, file := range b.o.Recipe.Files {
		h := &tar.Header{Name: "." + file.Path, Mode: int64(fileMode(file)), Typeflag: tar.TypeReg}
		var data []byte
		switch {
		case file.Directory:
			h.Typeflag = tar.TypeDir
		case file.Symlink != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, file.Symlink
		case file.Content != nil:
			data = []byte(*file.Content)
		default:
			if data, err = os.ReadFile(file.Source); err != nil {
				return "", fmt.Errorf("file %q: %w", file.Path, err)
			}
		}
		h.Size = int64(len(data))
		if err := tw.WriteHeader(h); err != nil {
			return "", err
		}
		if _, err := tw.Write(data); err != nil {
			return "", err
		}
	}
	return path, tw.Close()
}

func fileMode(f recipe.File) uint32 {
	if m, err := strconv.ParseUint(f.Mode, 8, 32); err == nil {
		return uint32(m) // checked when the recipe was read
	}
	if f.Directory {
		return 0o755
	}
	return 0o644
}

// shellQuote makes s one word for sh.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// finishInTree runs the finish script in a tree that did not come from
// mmdebstrap: writes it out in a namespace of its own, runs the script there
// and reads it back. Trees that need no script are returned as they are.
func (b *builder) finishInTree(ctx context.Context, t *tree.Tree) (*tree.Tree, error) {
	if len(b.o.Recipe.Run) == 0 && !(b.o.Recipe.Modules == recipe.ModulesUncompressed && hasPackedModules(t)) {
		return t, nil
	}
	finish, err := b.writeFinishHook()
	if err != nil {
		return nil, err
	}
	archive := filepath.Join(b.scratch, "tree.tar")
	if err := b.writeTar(archive, t); err != nil {
		return nil, err
	}
	root := filepath.Join(b.scratch, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	enter, err := b.writeScript("enter.sh", enterTree)
	if err != nil {
		return nil, err
	}
	return b.readProgram(ctx, "running scripts", inNamespace(enter, root, archive, finish))
}

// enterTree unpacks a tree on a file system of the namespace's own, so that
// nothing is left behind, and gives the finish script what a chroot needs.
const enterTree = `#!/bin/sh
set -eu
root=$1 archive=$2 finish=$3
mount -t tmpfs -o mode=0755 tree "$root"
tar -C "$root" --numeric-owner --xattrs --xattrs-include='*' -xpf "$archive"
mkdir -p "$root/proc" "$root/dev" "$root/run" "$root/tmp"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=0755 dev "$root/dev"
for node in null zero full random urandom tty; do
	: > "$root/dev/$node"
	mount --bind "/dev/$node" "$root/dev/$node"
done
mount -t tmpfs -o mode=0755 run "$root/run"
PATH=/usr/sbin:/usr/bin:/sbin:/bin "$finish" "$root" >&2
umount -R "$root/proc" "$root/dev" "$root/run"
tar -C "$root" --sort=name --numeric-owner --xattrs --xattrs-include='*' --one-file-system -cf - .
`

// writeTar writes t as a tar file with everything a tree can hold.
func (b *builder) writeTar(path string, t *tree.Tree) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	tw := tar.NewWriter(f)
	first := make(map[*tree.Node]string)
	err = t.Walk(func(p string, n *tree.Node) error {
		h := tarHeader("."+p, n.Inode())
		if name, ok := first[n.Inode()]; ok {
			return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: "." + p, Linkname: name, Format: tar.FormatPAX})
		}
		if !n.IsDir() {
			first[n.Inode()] = "." + p
		}
		if err := tw.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
			return err
		}
		r, err := b.spool.open(n)
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(tw, r)
		return err
	})
	if err != nil {
		return fmt.Errorf("writing the tree for its scripts: %w", err)
	}
	return tw.Close()
}

func tarHeader(name string, n *tree.Node) *tar.Header {
	h := &tar.Header{
		Name: name, Mode: int64(n.Mode & tree.PermMask), Uid: int(n.UID), Gid: int(n.GID), Format: tar.FormatPAX,
		Devmajor: int64(n.Rdev >> 8 & 0xfff), Devminor: int64(n.Rdev&0xff | n.Rdev>>12&0xfff00),
	}
	switch n.Mode & tree.TypeMask {
	case tree.TypeDir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case tree.TypeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, n.Target
	case tree.TypeChar:
		h.Typeflag = tar.TypeChar
	case tree.TypeBlock:
		h.Typeflag = tar.TypeBlock
	case tree.TypeFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		h.Typeflag, h.Size = tar.TypeReg, int64(n.Size)
	}
	for _, x := range n.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords["SCHILY.xattr."+x.Key] = string(x.Value)
	}
	return h
}

// hasPackedModules tells whether t has compressed kernel modules.
func hasPackedModules(t *tree.Tree) bool {
	found := false
	if dir := t.Lookup("/usr/lib/modules"); dir != nil {
		_ = (&tree.Tree{Root: dir}).Walk(func(_ string, n *tree.Node) error {
			for _, ext := range []string{".ko.xz", ".ko.gz", ".ko.zst"} {
				found = found || strings.HasSuffix(n.Name, ext)
			}
			return nil
		})
	}
	return found
}

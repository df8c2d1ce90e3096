package drive

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// use is something that a drive is needed for.
type use struct {
	kind  useKind
	where string // the mount point, the swap, the image, the holder
}

type useKind int

const (
	runs    useKind = iota // the computer runs from it
	swaps                  // it swaps to it
	sources                // the image to be written is on it
	mounted                // somebody mounted it
	held                   // LVM, RAID or device-mapper took it
)

// vital are the mount points without which the computer stops. /sysroot is where
// an Ashlar machine has its root partition, below everything.
var vital = []string{"/", "/usr", "/var", "/boot", "/boot/efi", "/efi", "/sysroot", "/etc", "/home"}

// node is a block device: a drive, a partition, or one made of others.
type node struct {
	name   string
	lowers []string // what it is made of
}

// stack is every block device of a computer, and what is made of what.
type stack struct {
	nodes  map[string]*node
	byDev  map[string]string // "8:17" to "sdb1"
	byName map[string]string // names of device-mapper, to "dm-0"
	mounts []mount
	uses   map[string][]use // by name of the drive
}

type mount struct{ dev, point, kind, source string }

// look reads what is used for what. image is the file or drive that is to be written, or "".
func (h Host) look(image string) (*stack, error) {
	s := &stack{nodes: map[string]*node{}, byDev: map[string]string{}, byName: map[string]string{}, uses: map[string][]use{}}
	names, err := h.wholeNames()
	if err != nil {
		return nil, err
	}
	if s.mounts, err = h.mounts(); err != nil {
		return nil, err
	}
	backing := map[string]string{}
	for _, name := range names {
		dir := h.path("sys/block", name)
		s.add(dir, name, list(dir, "slaves"))
		if dm := fact(dir, "dm/name"); dm != "" {
			s.byName[dm] = name
		}
		if file := fact(dir, "loop/backing_file"); file != "" {
			backing[name] = strings.TrimSuffix(file, " (deleted)")
		}
		for _, part := range list(dir) {
			if fact(dir, part, "partition") != "" {
				s.add(filepath.Join(dir, part), part, []string{name})
			}
		}
	}
	for name, file := range backing {
		if under := s.nodeOfFile(file); under != "" {
			s.nodes[name].lowers = append(s.nodes[name].lowers, under)
		}
	}
	s.note(h, names)
	if image != "" {
		s.use(s.nodeOfFile(image), use{sources, image})
	}
	return s, nil
}

func (s *stack) add(dir, name string, lowers []string) {
	s.nodes[name] = &node{name, lowers}
	s.byDev[fact(dir, "dev")] = name
}

// note collects the uses.
func (s *stack) note(h Host, names []string) {
	for _, m := range s.mounts {
		u := use{mounted, m.point}
		if slices.Contains(vital, m.point) {
			u.kind = runs
		}
		under := s.nodeOf(m)
		s.use(under, u)
		if m.kind == "btrfs" { // one file system over several drives, and mountinfo names one of them
			for _, others := range h.btrfs(under) {
				s.use(others, u)
			}
		}
	}
	lines, _ := os.ReadFile(h.path("proc/swaps"))
	for _, line := range strings.Split(string(lines), "\n") {
		// "Filename Type Size Used Priority"
		if f := strings.Fields(line); len(f) == 5 && strings.HasPrefix(f[0], "/") {
			file := unescape(f[0])
			s.use(s.nodeOfFile(file), use{swaps, file})
		}
	}
	for _, name := range names {
		dir := h.path("sys/block", name)
		for _, part := range append([]string{"."}, list(dir)...) {
			for _, holder := range list(dir, part, "holders") {
				s.use(name, use{held, s.title(h, holder)})
			}
		}
	}
}

// title is a device's name for people: dm-0 alone tells nobody anything.
func (s *stack) title(h Host, name string) string {
	if dm := fact(h.path("sys/block", name, "dm/name")); dm != "" {
		return "/dev/mapper/" + dm
	}
	return "/dev/" + name
}

// use notes u for every drive below a node.
func (s *stack) use(name string, u use) {
	seen := map[string]bool{}
	var down func(string)
	down = func(name string) {
		n := s.nodes[name]
		if n == nil || seen[name] {
			return
		}
		seen[name] = true
		if !slices.Contains(s.uses[name], u) {
			s.uses[name] = append(s.uses[name], u)
		}
		for _, lower := range n.lowers {
			down(lower)
		}
	}
	down(name)
}

// nodeOf is the block device that is mounted.
func (s *stack) nodeOf(m mount) string {
	if name, ok := s.byDev[m.dev]; ok {
		return name
	}
	return s.nodeOfDevice(m.source) // btrfs has numbers of its own
}

func (s *stack) nodeOfDevice(path string) string {
	if dm, ok := strings.CutPrefix(path, "/dev/mapper/"); ok {
		return s.byName[dm]
	}
	name, ok := strings.CutPrefix(path, "/dev/")
	if name = strings.ReplaceAll(name, "/", "!"); ok && s.nodes[name] != nil {
		return name
	}
	return ""
}

// nodeOfFile is the block device that holds a file, or is it.
func (s *stack) nodeOfFile(path string) string {
	if name := s.nodeOfDevice(path); name != "" {
		return name
	}
	var best *mount
	for i := range s.mounts { // the last of equals: it lies above
		m := &s.mounts[i]
		inside := path == m.point || strings.HasPrefix(path, strings.TrimSuffix(m.point, "/")+"/")
		if inside && (best == nil || len(m.point) >= len(best.point)) {
			best = m
		}
	}
	if best == nil {
		return ""
	}
	return s.nodeOf(*best)
}

// mounts reads mountinfo (proc_pid_mountinfo(5)).
func (h Host) mounts() ([]mount, error) {
	b, err := os.ReadFile(h.path("proc/self/mountinfo"))
	if err != nil {
		return nil, err
	}
	var all []mount
	for _, line := range strings.Split(string(b), "\n") {
		// 36 35 98:0 /root /mnt rw,noatime [optional…] - ext3 /dev/root rw
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if ok && len(l) >= 5 && len(r) >= 2 {
			all = append(all, mount{dev: l[2], point: unescape(l[4]), kind: r[0], source: unescape(r[1])})
		}
	}
	return all, nil
}

// btrfs lists all devices of the file system that one device belongs to.
func (h Host) btrfs(name string) []string {
	systems, _ := filepath.Glob(h.path("sys/fs/btrfs/*/devices"))
	for _, dir := range systems {
		if names := list(dir); slices.Contains(names, name) {
			return names
		}
	}
	return nil
}

// unescape undoes the kernel's octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func list(elem ...string) []string {
	entries, _ := os.ReadDir(filepath.Join(elem...))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

package sysroot

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Mount is one line of /proc/PID/mountinfo, see proc_pid_mountinfo(5).
type Mount struct {
	Point   string   `json:"point"`
	Type    string   `json:"type"`
	Source  string   `json:"source"`
	Options []string `json:"options"` // of the mount, then of the file system
}

// mountPoints are the directories of a sealed root that are there to be
// mounted on. Everything else below / is the image.
var mountPoints = []string{"boot", "dev", "efi", "etc", "media", "proc", "run", "sys", "sysroot", "tmp", "var"}

// ReadMounts reads a mountinfo file.
func ReadMounts(r io.Reader) ([]Mount, error) {
	var list []Mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 3 {
			return nil, fmt.Errorf("reading mounts: the line %q is not of mountinfo's form", lines.Text())
		}
		list = append(list, Mount{
			Point:   unescape(left[4]),
			Type:    right[0],
			Source:  unescape(right[1]),
			Options: append(strings.Split(left[5], ","), strings.Split(right[2], ",")...),
		})
	}
	return list, lines.Err()
}

// unescape undoes mountinfo's \040 for space, and its like.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// Sealed reports whether the root is what ashlar-init mounts: a read-only
// overlay whose every object the kernel checks.
func Sealed(mounts []Mount) bool {
	for _, m := range mounts {
		if m.Point == "/" {
			return m.Type == "overlay" && slices.Contains(m.Options, "ro") && slices.Contains(m.Options, "verity=require")
		}
	}
	return false
}

// Covering lists the mounts that hide a part of the sealed root: anything on
// or below a directory of the image, and a second mount on /etc or below it.
func Covering(mounts []Mount) []Mount {
	var list []Mount
	roots, etcs := 0, 0
	for _, m := range mounts {
		first, _, below := strings.Cut(strings.TrimPrefix(m.Point, "/"), "/")
		covers := !slices.Contains(mountPoints, first)
		switch {
		case m.Point == "/":
			roots++
			covers = roots > 1
		case m.Point == "/etc":
			etcs++
			covers = etcs > 1
		case first == "etc" && below:
			covers = true
		}
		if covers {
			list = append(list, m)
		}
	}
	return list
}

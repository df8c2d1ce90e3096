package cli

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
)

// varAnswer is the disk that /var has of its own, and its room in bytes.
type varAnswer struct {
	sysroot.Var
	Free  int64 `json:"free"` // for users who are not root; -1: it cannot be told
	Total int64 `json:"total"`
}

// describeVar asks the file system at /var; nil where it is on the root partition.
func describeVar(v *sysroot.Var) *varAnswer {
	if v == nil {
		return nil
	}
	answer := &varAnswer{Var: *v, Free: -1, Total: -1}
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Join(machineRoot(), "var"), &st); err == nil {
		answer.Free, answer.Total = int64(st.Bavail)*int64(st.Bsize), int64(st.Blocks)*int64(st.Bsize)
	}
	return answer
}

func (a *varAnswer) print(g *globals) {
	if a == nil {
		return
	}
	words := ""
	if a.Encryption != nil {
		words += ", encrypted (LUKS2)"
	}
	if a.Free >= 0 {
		words += "; " + formatBytes(a.Free) + " free"
	}
	g.printf("var         on %q of the disk %s%s\n", a.Device, a.ID, words)
}

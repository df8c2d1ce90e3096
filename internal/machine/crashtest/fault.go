package crashtest

import (
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Fault is a disk that refuses a change or a flush.
type Fault struct {
	Below string        // the file system, as a directory below the root; empty: any
	Kinds []Kind        // what it refuses; nil: everything
	At    int           // the first of them that it refuses, from 0
	Stays bool          // and all that come after it
	Errno syscall.Errno // how

	seen, Hits int
}

// Inject runs cmd to its end on a disk with a fault and returns its exit status.
// How often the disk refused is in f.Hits; 0 means that the program made fewer such
// calls. The calls never reach the kernel.
func Inject(t testing.TB, cmd *exec.Cmd, root string, f *Fault) int {
	t.Helper()
	_, code := record(t, cmd, root, f, nil)
	return code
}

func (f *Fault) hits(op Op) bool {
	if f == nil || f.Below != "" && op.Path != f.Below && !strings.HasPrefix(op.Path, f.Below+"/") {
		return false
	}
	among := len(f.Kinds) == 0
	for _, k := range f.Kinds {
		among = among || k == op.Kind
	}
	if !among {
		return false
	}
	f.seen++
	if f.seen-1 == f.At || f.Stays && f.seen-1 > f.At {
		f.Hits++
		return true
	}
	return false
}

// registers lets set change a stopped thread's registers.
func (r *recorder) registers(tid int, set func(*unix.PtraceRegs)) {
	var regs unix.PtraceRegs
	err := unix.PtraceGetRegs(tid, &regs)
	if err == nil {
		set(&regs)
		err = unix.PtraceSetRegs(tid, &regs)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		r.t.Fatalf("changing a thread's registers: %v", err)
	}
}

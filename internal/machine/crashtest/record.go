package crashtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Record runs cmd to its end and returns its exit status and, in their order, the
// changes and flushes that it made below root. Calls that change something are
// let through one at a time, so that the order is the order in which they took
// effect. See ptrace(2).
func Record(t testing.TB, cmd *exec.Cmd, root string) (*Log, int) {
	t.Helper()
	return record(t, cmd, root, nil)
}

func record(t testing.TB, cmd *exec.Cmd, root string, fault *Fault) (*Log, int) {
	t.Helper()
	root, err := filepath.EvalSymlinks(root)
	must(t, err)
	r := &recorder{
		t: t, root: root, log: &Log{Before: Load(t, root)},
		known: make(map[int]bool), inside: make(map[int]*call), fault: fault,
	}
	r.now = r.log.Before.clone()
	runtime.LockOSThread() // one thread is the tracer
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	defer cmd.Process.Release()
	r.pid = cmd.Process.Pid

	var status unix.WaitStatus
	_, err = unix.Wait4(r.pid, &status, unix.WALL, nil) // it waits before its first instruction
	must(t, err)
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL |
		unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK
	must(t, unix.PtraceSetOptions(r.pid, options))
	r.resume(r.pid, 0)
	r.known[r.pid] = true
	for {
		// A tracer is told about any of its children's threads; others' are not ours.
		tid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		must(t, err)
		if status.Exited() || status.Signaled() {
			if tid == r.pid {
				// A node is what it is from the start, whatever names it.
				for _, n := range r.now.nodes[len(r.log.Before.nodes):] {
					r.log.Before.nodes = append(r.log.Before.nodes, Node{Dir: n.Dir, Target: n.Target})
				}
				return r.log, status.ExitStatus()
			}
			continue
		}
		if status.Stopped() {
			r.stopped(tid, status.StopSignal())
		}
	}
}

// recorder is a recording that is going on.
type recorder struct {
	t       testing.TB
	pid     int
	root    string
	log     *Log
	now     *Tree // as it is at this moment
	known   map[int]bool
	inside  map[int]*call // threads in a call that changes something
	waiting []int         // threads about to make one, held until the other's is over
	fault   *Fault        // nil: none
}

// call is one system call, as it was entered.
type call struct {
	number uint64
	args   [6]uint64
	op     *pending
	fails  bool
}

func (r *recorder) stopped(tid int, signal unix.Signal) {
	fresh := !r.known[tid]
	r.known[tid] = true
	switch {
	case signal == unix.SIGTRAP|0x80:
		r.atCall(tid)
		return
	case signal == unix.SIGTRAP, signal == unix.SIGSTOP && fresh:
		signal = 0 // a new thread, or the news of one
	}
	r.resume(tid, int(signal))
}

// atCall is where a thread enters or leaves a call.
func (r *recorder) atCall(tid int) {
	info, ok := r.info(tid)
	switch {
	case !ok:
		return
	case info.op == unix.PTRACE_SYSCALL_INFO_ENTRY:
		c := &call{number: info.number, args: info.args}
		if !changing[c.number] {
			break
		}
		if len(r.inside) > 0 {
			r.waiting = append(r.waiting, tid)
			return
		}
		if c.op = r.begin(tid, c); c.op != nil {
			r.inside[tid] = c
			if c.fails = r.fault.hits(c.op.op); c.fails {
				r.prevent(tid)
			}
		}
	case info.op == unix.PTRACE_SYSCALL_INFO_EXIT && r.inside[tid] != nil:
		c := r.inside[tid]
		delete(r.inside, tid)
		if c.fails {
			r.answer(tid, r.fault.Errno)
		} else if result := int64(info.number); result >= 0 { // the union's first field
			r.finish(c, result)
		}
		r.resume(tid, 0)
		held := r.waiting
		r.waiting = nil
		for _, other := range held {
			r.atCall(other)
		}
		return
	}
	r.resume(tid, 0)
}

// resume lets a thread run to its next call. It may have been ended by another
// in the meantime.
func (r *recorder) resume(tid, signal int) {
	if err := unix.PtraceSyscall(tid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
		r.t.Fatal(err)
	}
}

// callInfo is struct ptrace_syscall_info: of an entry, the call's number and its
// arguments; of an exit, the result where the number would be.
type callInfo struct {
	op     uint8
	_      [3]uint8
	arch   uint32
	ip, sp uint64
	number uint64
	args   [6]uint64
	_      [4]uint64 // room for what newer kernels add
}

func (r *recorder) info(tid int) (info callInfo, ok bool) {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid),
		unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno == unix.ESRCH {
		return info, false
	}
	if errno != 0 {
		r.t.Fatalf("asking what a thread is about to do: %v", errno)
	}
	return info, true
}

// memory copies what the process has at an address.
func (r *recorder) memory(tid int, address, length uint64) []byte {
	b := make([]byte, length)
	if length == 0 {
		return b
	}
	local := []unix.Iovec{{Base: &b[0], Len: length}}
	n, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(address), Len: int(length)}}, 0)
	if err != nil || uint64(n) != length {
		r.t.Fatalf("reading %d bytes of the process: %d, %v", length, n, err)
	}
	return b
}

// text copies a string that ends with a zero byte.
func (r *recorder) text(tid int, address uint64) string {
	const page = 4096
	var s []byte
	for len(s) < unix.PathMax {
		b := r.memory(tid, address, page-address%page)
		if i := strings.IndexByte(string(b), 0); i >= 0 {
			return string(append(s, b[:i]...))
		}
		s = append(s, b...)
		address += uint64(len(b))
	}
	r.t.Fatal("a path without an end")
	return ""
}

// path is what a call names, below root; ok is false for what is elsewhere.
func (r *recorder) path(tid int, dir, name uint64) (string, bool) {
	s := r.text(tid, name)
	if !filepath.IsAbs(s) {
		base := "cwd"
		if int32(dir) != unix.AT_FDCWD {
			base = "fd/" + decimal(int(int32(dir)))
		}
		s = filepath.Join(r.link(tid, base), s)
	}
	return r.below(s)
}

// opened is the file behind a descriptor, below root.
func (r *recorder) opened(tid int, fd uint64) (string, bool) {
	return r.below(r.link(tid, "fd/"+decimal(int(int32(fd)))))
}

func (r *recorder) link(tid int, name string) string {
	s, err := os.Readlink("/proc/" + decimal(tid) + "/" + name)
	if err != nil {
		return "" // the call will fail for the same reason
	}
	return s
}

func (r *recorder) below(path string) (string, bool) {
	path = filepath.Clean(path)
	if path == r.root {
		return ".", true
	}
	return strings.CutPrefix(path, r.root+"/")
}

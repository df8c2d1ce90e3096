package crashtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Record runs cmd to its end and returns its exit status and, in their order, the
// changes and flushes that it made below root. Calls that change something are
// let through one at a time, so that the order is the order in which they took
// effect. See ptrace(2).
func Record(t testing.TB, cmd *exec.Cmd, root string) (*Log, int) {
	t.Helper()
	return record(t, cmd, root, nil, nil)
}

// RecordDisk is Record, and notes too what cmd and the programs that it runs write to
// those sections of a disk itself.
func RecordDisk(t testing.TB, cmd *exec.Cmd, root, path string, sections ...Section) (*Log, *Blocks, int) {
	t.Helper()
	path, err := filepath.EvalSymlinks(path)
	must(t, err)
	before := make(Image)
	for _, s := range sections {
		before.Put(0, LoadImage(t, path).only(s))
	}
	d := &disk{path: path, sections: sections, Blocks: Blocks{Before: before}}
	log, code := record(t, cmd, root, nil, d)
	return log, &d.Blocks, code
}

func record(t testing.TB, cmd *exec.Cmd, root string, fault *Fault, d *disk) (*Log, int) {
	t.Helper()
	root, err := filepath.EvalSymlinks(root)
	must(t, err)
	r := &recorder{
		tracer: tracer{t: t}, root: root, log: &Log{Before: Load(t, root)},
		inside: make(map[int]*call), fault: fault, disk: d,
	}
	r.now = r.log.Before.clone()
	status := r.follow(cmd, r.atCall)
	// A node is what it is from the start, whatever names it.
	for _, n := range r.now.nodes[len(r.log.Before.nodes):] {
		r.log.Before.nodes = append(r.log.Before.nodes, Node{Dir: n.Dir, Target: n.Target})
	}
	return r.log, status.ExitStatus()
}

// recorder is a recording that is going on.
type recorder struct {
	tracer
	root    string
	log     *Log
	now     *Tree         // as it is at this moment
	inside  map[int]*call // threads in a call that changes something
	waiting []int         // threads about to make one, held until the other's is over
	fault   *Fault        // nil: none
	disk    *disk         // nil: none
}

// call is one system call, as it was entered.
type call struct {
	number uint64
	args   [6]uint64
	op     *pending
	fails  bool
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
			if c.fails = c.op.block == nil && r.fault.hits(c.op.op); c.fails {
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

package crashtest

import (
	"errors"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Trace runs cmd to its end and stops it before every system call that changes
// a directory, to call cut: the disk is then as it would be had the program
// been killed there. It returns the exit status.
func Trace(t testing.TB, cmd *exec.Cmd, cut func()) int {
	t.Helper()
	tr := &tracer{t: t}
	status := tr.follow(cmd, func(tid int) {
		if info, ok := tr.info(tid); ok && info.changesDirectory() {
			cut()
		}
		tr.resume(tid, 0)
	})
	return status.ExitStatus()
}

// directoryCalls are those that change what is in a directory, but for openat,
// which does when it creates.
var directoryCalls = []uint64{
	unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT, unix.SYS_MKDIRAT, unix.SYS_LINKAT, unix.SYS_SYMLINKAT,
}

// tracer follows a process and its threads from call to call. See ptrace(2).
type tracer struct {
	t     testing.TB
	pid   int
	known map[int]bool // threads that were seen
}

// follow starts cmd and returns when it has ended. A thread that enters or leaves a
// call is atCall's, to resume it then or later.
func (tr *tracer) follow(cmd *exec.Cmd, atCall func(tid int)) unix.WaitStatus {
	tr.t.Helper()
	runtime.LockOSThread() // one thread is the tracer
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	must(tr.t, cmd.Start())
	defer cmd.Process.Release()
	tr.pid = cmd.Process.Pid

	var status unix.WaitStatus
	_, err := unix.Wait4(tr.pid, &status, unix.WALL, nil) // it waits before its first instruction
	must(tr.t, err)
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL |
		unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK
	must(tr.t, unix.PtraceSetOptions(tr.pid, options))
	tr.resume(tr.pid, 0)
	tr.known = map[int]bool{tr.pid: true}
	for {
		// A tracer is told about any of its children's threads; others' are not ours.
		tid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		must(tr.t, err)
		switch {
		case (status.Exited() || status.Signaled()) && tid == tr.pid:
			return status
		case status.Stopped():
			tr.stopped(tid, status.StopSignal(), atCall)
		}
	}
}

func (tr *tracer) stopped(tid int, signal unix.Signal, atCall func(tid int)) {
	fresh := !tr.known[tid]
	tr.known[tid] = true
	switch {
	case signal == unix.SIGTRAP|0x80:
		atCall(tid)
		return
	case signal == unix.SIGTRAP, signal == unix.SIGSTOP && fresh:
		signal = 0 // a new thread, or the news of one
	}
	tr.resume(tid, int(signal))
}

// resume lets a thread run to its next call. It may have been ended by another
// in the meantime.
func (tr *tracer) resume(tid, signal int) {
	if err := unix.PtraceSyscall(tid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
		tr.t.Fatal(err)
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

// changesDirectory reports whether a thread is about to change a directory.
func (info callInfo) changesDirectory() bool {
	switch {
	case info.op != unix.PTRACE_SYSCALL_INFO_ENTRY:
		return false
	case info.number == unix.SYS_OPENAT:
		return info.args[2]&unix.O_CREAT != 0
	}
	return slices.Contains(directoryCalls, info.number)
}

// info says in which call a stopped thread is; false when it has been ended.
func (tr *tracer) info(tid int) (info callInfo, ok bool) {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid),
		unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno == unix.ESRCH {
		return info, false
	}
	if errno != 0 {
		tr.t.Fatalf("asking what a thread is about to do: %v", errno)
	}
	return info, true
}

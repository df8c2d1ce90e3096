package updatetest

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
// been killed there. It returns the exit status. See ptrace(2).
func Trace(t testing.TB, cmd *exec.Cmd, cut func()) int {
	t.Helper()
	runtime.LockOSThread() // one thread is the tracer
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	pid := cmd.Process.Pid
	defer cmd.Process.Release()

	var status unix.WaitStatus
	_, err := unix.Wait4(pid, &status, unix.WALL, nil) // it waits before its first instruction
	must(t, err)
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL |
		unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK
	must(t, unix.PtraceSetOptions(pid, options))
	must(t, resume(pid, 0))
	known := map[int]bool{pid: true}
	for {
		// A tracer is told about any of its children's threads; others' are not ours.
		tid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		must(t, err)
		switch {
		case status.Exited() || status.Signaled():
			if tid == pid {
				return status.ExitStatus()
			}
			continue
		case !status.Stopped():
			continue
		}
		signal := status.StopSignal()
		switch {
		case signal == unix.SIGTRAP|0x80:
			signal = 0
			if changes(t, tid) {
				cut()
			}
		case signal == unix.SIGTRAP, signal == unix.SIGSTOP && !known[tid]:
			signal = 0 // a new thread, or the news of one
		}
		known[tid] = true
		// A thread may have been ended by another in the meantime.
		if err := resume(tid, int(signal)); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
	}
}

func resume(tid, signal int) error { return unix.PtraceSyscall(tid, signal) }

// syscallInfo is struct ptrace_syscall_info, up to the arguments of an entry.
type syscallInfo struct {
	op     uint8
	_      [3]uint8
	arch   uint32
	ip, sp uint64
	number uint64
	args   [6]uint64
	_      [4]uint64 // room for what newer kernels add
}

// changing are the calls that change what is in a directory, but for openat,
// which does when it creates.
var changing = []uint64{
	unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT, unix.SYS_MKDIRAT, unix.SYS_LINKAT, unix.SYS_SYMLINKAT,
}

// changes reports whether a stopped thread is about to change a directory.
func changes(t testing.TB, tid int) bool {
	t.Helper()
	var info syscallInfo
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid),
		unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno == unix.ESRCH {
		return false
	}
	if errno != 0 {
		t.Fatalf("asking what a thread is about to do: %v", errno)
	}
	if info.op != unix.PTRACE_SYSCALL_INFO_ENTRY {
		return false
	}
	if info.number == unix.SYS_OPENAT {
		return info.args[2]&unix.O_CREAT != 0
	}
	return slices.Contains(changing, info.number)
}

package crashtest

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// prevent makes a thread that enters a system call enter none.
func (r *recorder) prevent(tid int) {
	r.registers(tid, func(regs *unix.PtraceRegs) { regs.Orig_rax = ^uint64(0) })
}

// answer is what it then takes for the call's result.
func (r *recorder) answer(tid int, errno syscall.Errno) {
	r.registers(tid, func(regs *unix.PtraceRegs) { regs.Rax = -uint64(errno) })
}

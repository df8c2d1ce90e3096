package vmtest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on x86.
const clockTick = 10 * time.Millisecond

// CPU is the processor time that the machine has taken of the host since it was started:
// what its work costs, however much else the host has to do.
func (vm *VM) CPU() (time.Duration, error) {
	if vm.run == nil {
		return 0, ErrOff
	}
	path := fmt.Sprintf("/proc/%d/stat", vm.run.pid.Load())
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of %s: %w", vm.Name, err)
	}
	// proc_pid_stat(5): behind the name, which may have blanks, utime and stime are
	// fields 14 and 15.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("%q is not understood: %q", path, text)
	}
	var sum time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not understood: %w", path, err)
		}
		sum += time.Duration(n) * clockTick
	}
	return sum, nil
}

package vmtest

import (
	"fmt"
	"os"
	"sync"
)

// keyboard is the other direction of a machine's serial console.
type keyboard struct {
	mu   sync.Mutex
	pipe *os.File // to the present QEMU; nil: none
}

// plug connects it to another QEMU, or to none.
func (k *keyboard) plug(pipe *os.File) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pipe != nil {
		k.pipe.Close()
	}
	k.pipe = pipe
}

// Type sends keys to the serial console, such as "secret\r"; a terminal's Enter is
// "\r". It does not wait until anybody reads them: WaitConsole for the prompt first.
func (vm *VM) Type(keys string) error {
	if vm.run == nil {
		return ErrOff
	}
	k := &vm.run.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pipe == nil {
		return ErrOff
	}
	if _, err := k.pipe.WriteString(keys); err != nil {
		return fmt.Errorf("typing at the console of %s: %w", vm.Name, err)
	}
	return nil
}

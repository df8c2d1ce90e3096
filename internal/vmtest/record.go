package vmtest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// recorder keeps the write logs of a machine whose Config says Record: one for
// each QEMU, which is one for each start of the guest.
type recorder struct {
	mu   sync.Mutex
	logs []string
}

// Position is a moment of a recording: so many entries of that log were complete.
type Position struct {
	Log     int // from 0
	Entries int
}

// Recording lists the write logs so far, in the order of the machine's starts.
// They are in the format of dm-log-writes; see package writelog.
func (vm *VM) Recording() []string {
	vm.record.mu.Lock()
	defer vm.record.mu.Unlock()
	return append([]string(nil), vm.record.logs...)
}

// Recorded is the present moment of the recording. Whatever the guest flushed
// before the call lies before it; of what it has only written, some may not.
func (vm *VM) Recorded() (Position, error) {
	logs := vm.Recording()
	for i := len(logs) - 1; i >= 0; i-- {
		n, err := loggedEntries(logs[i])
		if err != nil {
			return Position{}, fmt.Errorf("reading the write log of %s: %w", vm.Name, err)
		}
		if n > 0 || i == 0 {
			return Position{Log: i, Entries: n}, nil
		}
	}
	return Position{}, fmt.Errorf("%s records nothing: its config does not say so, or it was never on", vm.Name)
}

// loggedEntries reads the count in a log's first sector, which QEMU writes at
// every flush.
func loggedEntries(name string) (int, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var super [24]byte
	if _, err := f.ReadAt(super[:], 0); errors.Is(err, io.EOF) {
		return 0, nil // nothing was flushed yet
	} else if err != nil {
		return 0, err
	}
	return int(binary.LittleEndian.Uint64(super[16:])), nil
}

// recordedDisk is QEMU's argument for the disk below a filter that logs its
// writes and flushes. The write cache is on, so the guest has to flush.
func (vm *VM) recordedDisk() ([]string, error) {
	vm.record.mu.Lock()
	defer vm.record.mu.Unlock()
	log := vm.path(fmt.Sprintf("writes-%d.log", len(vm.record.logs)+1))
	if err := os.WriteFile(log, nil, 0o644); err != nil {
		return nil, err
	}
	vm.record.logs = append(vm.record.logs, log)
	type object = map[string]any
	node, err := json.Marshal(object{
		"node-name": "disk", "driver": "blklogwrites", "log-sector-size": 512, "discard": "unmap",
		"log":  object{"driver": "file", "filename": log},
		"file": object{"driver": vm.format, "discard": "unmap", "file": object{"driver": "file", "filename": vm.disk, "discard": "unmap"}},
	})
	if err != nil {
		return nil, err
	}
	return []string{"-blockdev", string(node)}, nil
}

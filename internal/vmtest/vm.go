package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/ashlar-os/ashlar/internal/program"
)

// HostAddress is where a guest reaches the host's loopback.
const HostAddress = "10.0.2.2"

// Config describes one virtual machine. Only Base is needed.
type Config struct {
	Name        string            // for messages; default "vm"
	Dir         string            // keeps the console log, the disk and the EFI variables
	Base        string            // disk image to start from, raw or qcow2; never written
	BaseFormat  string            // default "raw"
	Bus         Bus               // how the disk is attached; default VirtioBlk
	Others      []Disk            // attached before it
	Memory      int               // MiB; default 1024
	CPUs        int               // default 1; two under emulation lose timers and interrupts on a busy host
	Firmware    Firmware          // default OVMF without Secure Boot
	Credentials map[string]string // more of systemd's system credentials: name and value
	Args        []string          // added to QEMU's: a TPM, …
	Record      bool              // keep a log of all writes to the disk, see Recording
	Console     io.Writer         // gets a copy of the console; nil: only the log
	Offline     bool              // there is no network card
	Closed      bool              // the image takes nothing from SMBIOS: it brings the agent and KernelArguments itself
}

// Firmware is a pair of OVMF images. Vars is a template, copied for each VM.
type Firmware struct {
	Code, Vars string
	SecureBoot bool // needs SMM
}

// OVMF is the firmware of Debian's package ovmf.
var OVMF = Firmware{Code: "/usr/share/OVMF/OVMF_CODE_4M.fd", Vars: "/usr/share/OVMF/OVMF_VARS_4M.fd"}

// VM is a virtual machine: a disk and EFI variables that last, and, between
// Start and PowerCut or Wait, a running QEMU.
type VM struct {
	Config
	Log     string   // path of the console's log
	console *Console // text of the current or last start
	logFile *os.File
	disk    string // path of the disk and its format
	format  string
	starts  int
	record  recorder
	run     *running // nil when off
}

// running is a machine that is on: one QEMU after the other, see live.
type running struct {
	cancel context.CancelFunc
	exited chan struct{} // closed when the machine is off
	err    error         // how it ended; read after exited
	agent  *agent
	keys   keyboard
	conns  []net.Conn // to the present QEMU; used by live alone
	qmp    atomic.Pointer[qmp]
	pid    atomic.Int64
	cut    atomic.Bool // killed by PowerCut
	silent atomic.Bool // killed because the firmware hung
}

// Create makes the VM's overlay and EFI variables in cfg.Dir. Close must be called.
func Create(ctx context.Context, cfg Config) (*VM, error) {
	if cfg.Name == "" {
		cfg.Name = "vm"
	}
	if cfg.Memory == 0 {
		cfg.Memory = 1024
	}
	if cfg.CPUs == 0 {
		cfg.CPUs = 1
	}
	if cfg.Firmware == (Firmware{}) {
		cfg.Firmware = OVMF
	}
	if cfg.BaseFormat == "" {
		cfg.BaseFormat = "raw"
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of %s: %w", cfg.Name, err)
	}
	vm := &VM{Config: cfg, Log: filepath.Join(cfg.Dir, "console.log")}
	vars, err := os.ReadFile(cfg.Firmware.Vars)
	if err != nil {
		return nil, fmt.Errorf("reading the firmware (Debian package ovmf): %w", err)
	}
	if err := os.WriteFile(vm.path("vars.fd"), vars, 0o644); err != nil {
		return nil, fmt.Errorf("writing the EFI variables: %w", err)
	}
	base, err := filepath.Abs(cfg.Base)
	if err != nil {
		return nil, err
	}
	vm.disk, vm.format = vm.path("disk.qcow2"), "qcow2"
	_, err = program.Run(ctx, program.Command{Args: []string{
		"qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", cfg.BaseFormat, vm.disk}})
	if err != nil {
		return nil, fmt.Errorf("making an overlay of %q: %w", cfg.Base, err)
	}
	if vm.logFile, err = os.OpenFile(vm.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err != nil {
		return nil, err
	}
	out := io.Writer(vm.logFile)
	if cfg.Console != nil {
		out = io.MultiWriter(vm.logFile, cfg.Console)
	}
	vm.console = newConsole(out)
	return vm, nil
}

func (vm *VM) path(name string) string { return filepath.Join(vm.Dir, name) }

// Close cuts the power and removes the disk; the console's log stays.
func (vm *VM) Close() error {
	vm.PowerCut()
	err := errors.Join(os.Remove(vm.disk), os.Remove(vm.path("vars.fd")), vm.logFile.Close())
	if err != nil {
		return fmt.Errorf("putting away %s: %w", vm.Name, err)
	}
	return nil
}

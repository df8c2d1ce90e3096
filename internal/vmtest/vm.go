package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

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
	Memory      int               // MiB; default 1024
	CPUs        int               // default 2
	Firmware    Firmware          // default OVMF without Secure Boot
	Credentials map[string]string // more of systemd's system credentials: name and value
	Args        []string          // added to QEMU's: second disks, TPM, …
	Console     io.Writer         // gets a copy of the console; nil: only the log
	NoAgent     bool              // do not put the agent into the guest
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
	run     *running // nil when off
}

// running is one life of QEMU.
type running struct {
	pid    int
	cancel context.CancelFunc
	exited chan struct{} // closed when QEMU is gone
	err    error         // how it ended; read after exited
	agent  *agent
	qmp    *qmp
	conns  []net.Conn
	once   sync.Once
	cut    bool // killed by PowerCut
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
		cfg.CPUs = 2
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

// Start turns the machine on. It returns when QEMU runs, long before the guest does.
func (vm *VM) Start(ctx context.Context) error {
	if vm.On() {
		return fmt.Errorf("starting %s: it is on", vm.Name)
	}
	// Socket paths may have 107 bytes at most, and test directories are deep.
	sockets, err := os.MkdirTemp("", "vm")
	if err != nil {
		return err
	}
	defer os.RemoveAll(sockets)
	var listeners []*net.UnixListener
	for _, name := range []string{"qmp", "agent"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(sockets, name), Net: "unix"})
		if err != nil {
			return fmt.Errorf("starting %s: %w", vm.Name, err)
		}
		defer l.Close()
		listeners = append(listeners, l)
	}

	vm.starts++
	fmt.Fprintf(vm.logFile, "\n=== %s: start %d\n", vm.Name, vm.starts)
	vm.console.power(true)
	life, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, exited: make(chan struct{})}
	vm.run = r
	go func() {
		_, r.err = program.Run(life, program.Command{Args: vm.arguments(sockets), Stdout: vm.console})
		for _, l := range listeners {
			l.Close() // so that Accept below ends
		}
		vm.console.power(false)
		close(r.exited)
	}()

	stop := context.AfterFunc(ctx, func() {
		for _, l := range listeners {
			l.Close()
		}
	})
	defer stop()
	for _, l := range listeners {
		conn, err := l.AcceptUnix()
		if err != nil {
			cancel()
			<-r.exited
			return fmt.Errorf("starting %s: QEMU did not start: %w", vm.Name, errors.Join(context.Cause(ctx), r.err))
		}
		r.conns = append(r.conns, conn)
		if r.pid, err = peer(conn); err != nil {
			cancel()
			return fmt.Errorf("starting %s: %w", vm.Name, err)
		}
	}
	r.agent = newAgent(r.conns[1])
	if r.qmp, err = newQMP(r.conns[0]); err != nil {
		vm.PowerCut()
		return fmt.Errorf("starting %s: %w", vm.Name, err)
	}
	return nil
}

// peer is the process at the other end: QEMU itself.
func peer(conn *net.UnixConn) (pid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var sockErr error
	if err := raw.Control(func(fd uintptr) {
		cred, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if sockErr != nil {
		return 0, fmt.Errorf("asking for the process of QEMU: %w", sockErr)
	}
	return int(cred.Pid), nil
}

// On reports whether QEMU runs.
func (vm *VM) On() bool {
	if vm.run == nil {
		return false
	}
	select {
	case <-vm.run.exited:
		return false
	default:
		return true
	}
}

// PowerCut pulls the plug and returns when the machine is off. On a machine
// that is off it does nothing.
func (vm *VM) PowerCut() {
	r := vm.run
	if r == nil {
		return
	}
	if vm.On() && r.pid > 0 {
		r.cut = true
		_ = unix.Kill(r.pid, unix.SIGKILL) // it may have ended by itself just now
	}
	<-r.exited
	vm.finish()
}

// Wait returns when the machine has turned itself off.
func (vm *VM) Wait(ctx context.Context) error {
	r := vm.run
	if r == nil {
		return nil
	}
	select {
	case <-r.exited:
		vm.finish()
		if r.err != nil && !r.cut {
			return fmt.Errorf("%s: %w", vm.Name, r.err)
		}
		return nil
	case <-ctx.Done():
		return vm.explain("waiting for it to turn off", context.Cause(ctx))
	}
}

func (vm *VM) finish() {
	vm.run.once.Do(func() {
		vm.run.cancel()
		for _, c := range vm.run.conns {
			c.Close()
		}
	})
}

// Boot starts the machine and waits until commands can be run in it.
func (vm *VM) Boot(ctx context.Context) error {
	if err := vm.Start(ctx); err != nil {
		return err
	}
	return vm.WaitReady(ctx)
}

// WaitReady waits until commands can be run: basic.target is reached.
func (vm *VM) WaitReady(ctx context.Context) error {
	if vm.run == nil {
		return ErrOff
	}
	if _, err := vm.run.agent.ready(ctx, ""); err != nil {
		return vm.explain("waiting for it to be ready", err)
	}
	return nil
}

// WaitConsole waits until the console says something that matches pattern,
// after what the last call matched, and returns it.
func (vm *VM) WaitConsole(ctx context.Context, pattern string) (string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return "", err
	}
	match, err := vm.console.Wait(ctx, re)
	if err != nil {
		return "", vm.explain(fmt.Sprintf("waiting for %q on the console", pattern), err)
	}
	return match, nil
}

// ConsoleText is all that the console said since the last start.
func (vm *VM) ConsoleText() string { return vm.console.Text() }

// Run runs a shell script in the guest, as root. The error says that it got no
// answer; how the script ended is in the result.
func (vm *VM) Run(ctx context.Context, script string) (Result, error) {
	if vm.run == nil {
		return Result{}, ErrOff
	}
	res, err := vm.run.agent.run(ctx, script)
	if err != nil {
		return res, vm.explain(fmt.Sprintf("running %q", script), err)
	}
	return res, nil
}

// Output runs a script that must succeed and returns its stdout without the last newline.
func (vm *VM) Output(ctx context.Context, script string) (string, error) {
	res, err := vm.Run(ctx, script)
	if err != nil {
		return "", err
	}
	if res.Code != 0 {
		return "", fmt.Errorf("%s: %q ended with status %d: %s%s", vm.Name, script, res.Code, res.Stdout, res.Stderr)
	}
	return strings.TrimSuffix(res.Stdout, "\n"), nil
}

// Reboot restarts the guest as its administrator would, and waits until it is ready again.
func (vm *VM) Reboot(ctx context.Context) error {
	return vm.RebootWith(ctx, "systemctl --no-block reboot")
}

// RebootWith runs a script that restarts the guest, such as "ashlar update
// --reboot", and waits until the machine is ready again.
func (vm *VM) RebootWith(ctx context.Context, script string) error {
	if vm.run == nil {
		return ErrOff
	}
	boot, err := vm.run.agent.ready(ctx, "")
	if err != nil {
		return vm.explain("rebooting", err)
	}
	res, err := vm.Run(ctx, script)
	if err == nil && res.Code != 0 {
		return fmt.Errorf("%s: %q ended with status %d: %s%s", vm.Name, script, res.Code, res.Stdout, res.Stderr)
	}
	if err != nil && !errors.Is(err, ErrRebooted) {
		return err
	}
	if _, err := vm.run.agent.ready(ctx, boot); err != nil {
		return vm.explain("rebooting", err)
	}
	return nil
}

// Shutdown turns the guest off as its administrator would.
func (vm *VM) Shutdown(ctx context.Context) error {
	if _, err := vm.Run(ctx, "systemctl --no-block poweroff"); err != nil && !errors.Is(err, ErrOff) {
		return err
	}
	return vm.Wait(ctx)
}

// Reset presses the reset button: the guest gets no warning, but what QEMU
// holds is not lost as in a power cut. It does not wait.
func (vm *VM) Reset() error {
	if vm.run == nil {
		return ErrOff
	}
	return vm.run.qmp.execute("system_reset", nil, nil)
}

// explain wraps err with what the console said last and where all of it is.
func (vm *VM) explain(doing string, err error) error {
	text := vm.console.Text()
	if len(text) > 1500 {
		text = text[len(text)-1500:]
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w (%s)", err, time.Now().UTC().Format(time.TimeOnly))
	}
	return fmt.Errorf("%s: %s: %w\nconsole (all of it is in %s) ends:\n%s", vm.Name, doing, err, vm.Log, text)
}

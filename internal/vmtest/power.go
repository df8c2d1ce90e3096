package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/program"
)

// Start turns the machine on. It returns when QEMU runs, long before the guest does.
func (vm *VM) Start(ctx context.Context) error {
	if vm.On() {
		return fmt.Errorf("starting %s: it is on", vm.Name)
	}
	life, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, exited: make(chan struct{}), agent: newAgent()}
	vm.run = r
	started := make(chan error, 1)
	go func() {
		defer close(r.exited)
		defer r.agent.close()
		r.err = vm.live(life, ctx, started)
	}()
	select {
	case err := <-started:
		if err != nil {
			cancel()
			<-r.exited
			return fmt.Errorf("starting %s: %w", vm.Name, err)
		}
		return nil
	case <-r.exited:
		return fmt.Errorf("starting %s: QEMU did not start: %w", vm.Name, r.err)
	}
}

// firmwareSilence is how long a machine may say nothing after it was started.
// The emulator now and then loses a processor while the firmware starts it,
// which then waits for ever; nothing of the guest has run by then.
const firmwareSilence = 90 * time.Second

// live runs QEMU until the machine is off. A guest that restarts gets a new
// QEMU: the firmware of an emulated machine that is reset in place sometimes
// hangs. started gets the outcome of the first start.
func (vm *VM) live(life, starting context.Context, started chan<- error) error {
	for first := true; ; first = false {
		reset, err := vm.liveOnce(life, starting, func(err error) {
			if first {
				started <- err
			}
		})
		if err != nil || !reset || life.Err() != nil {
			vm.console.power(false)
			return err
		}
		starting = life
	}
}

// liveOnce is one QEMU.
func (vm *VM) liveOnce(life, starting context.Context, started func(error)) (reset bool, err error) {
	// Socket paths may have 107 bytes at most, and test directories are deep.
	sockets, err := os.MkdirTemp("", "vm")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(sockets)
	arguments, err := vm.arguments(sockets)
	if err != nil {
		return false, err
	}
	listeners, err := listenAll(sockets, "qmp", "agent")
	if err != nil {
		return false, err
	}
	defer closeAll(listeners)

	input, keys, err := os.Pipe()
	if err != nil {
		return false, err
	}
	defer vm.run.keys.plug(nil)
	defer input.Close()
	vm.run.keys.plug(keys)

	vm.starts++
	fmt.Fprintf(vm.logFile, "\n=== %s: start %d\n", vm.Name, vm.starts)
	vm.console.power(true)
	ended := make(chan error, 1)
	go func() {
		_, err := program.Run(life, program.Command{Args: arguments, Stdin: input, Stdout: vm.console})
		closeAll(listeners) // so that accepting below ends
		ended <- err
	}()
	if err := vm.connect(starting, listeners); err != nil {
		vm.kill()
		err = errors.Join(err, <-ended)
		started(err)
		return false, err
	}
	started(nil)
	defer closeAll(vm.run.conns)
	silent := time.AfterFunc(firmwareSilence, func() {
		if vm.console.Text() == "" {
			fmt.Fprintf(vm.logFile, "=== %s: the firmware says nothing, starting again\n", vm.Name)
			vm.run.silent.Store(true)
			vm.kill()
		}
	})
	defer silent.Stop()
	err = <-ended
	if vm.run.silent.Swap(false) {
		return true, nil
	}
	return vm.run.qmp.Load().ended(), err
}

// connect takes QEMU's connections to the sockets.
func (vm *VM) connect(ctx context.Context, listeners []*net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() { closeAll(listeners) })
	defer stop()
	r := vm.run
	r.conns = nil
	for _, l := range listeners {
		conn, err := l.AcceptUnix()
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		r.conns = append(r.conns, conn)
		pid, err := peer(conn)
		if err != nil {
			return err
		}
		r.pid.Store(int64(pid))
	}
	r.agent.attach(r.conns[1])
	q, err := handshake(ctx, r.conns[0])
	if err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	r.qmp.Store(q)
	return nil
}

func listenAll(dir string, names ...string) ([]*net.UnixListener, error) {
	var list []*net.UnixListener
	for _, name := range names {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			closeAll(list)
			return nil, err
		}
		list = append(list, l)
	}
	return list, nil
}

func closeAll[C io.Closer](list []C) {
	for _, c := range list {
		c.Close()
	}
}

// kill ends QEMU at once.
func (vm *VM) kill() {
	if pid := vm.run.pid.Load(); pid > 0 {
		_ = unix.Kill(int(pid), unix.SIGKILL) // it may have ended by itself just now
	}
}

// handshake begins the conversation with QEMU, while ctx lasts.
func handshake(ctx context.Context, conn net.Conn) (*qmp, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	return newQMP(conn)
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
	if vm.On() {
		r.cut.Store(true)
		vm.kill()
	}
	<-r.exited
}

// Wait returns when the machine has turned itself off.
func (vm *VM) Wait(ctx context.Context) error {
	r := vm.run
	if r == nil {
		return nil
	}
	select {
	case <-r.exited:
		if r.err != nil && !r.cut.Load() {
			return fmt.Errorf("%s: %w", vm.Name, r.err)
		}
		return nil
	case <-ctx.Done():
		return vm.explain("waiting for it to turn off", context.Cause(ctx))
	}
}

// Reset presses the reset button: the guest gets no warning, but what QEMU
// holds is not lost as in a power cut. It does not wait: WaitReady does.
func (vm *VM) Reset() error {
	if vm.run == nil {
		return ErrOff
	}
	vm.run.agent.forget()
	return vm.run.qmp.Load().execute("system_reset", nil, nil)
}

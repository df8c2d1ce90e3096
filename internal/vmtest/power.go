package vmtest

import (
	"context"
	"errors"
	"fmt"
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
	if r.qmp, err = handshake(ctx, r.conns[0]); err != nil {
		select {
		case <-r.exited: // it refused its arguments after connecting
			err = r.err
		case <-ctx.Done():
			err = errors.Join(context.Cause(ctx), err)
		}
		vm.PowerCut()
		return fmt.Errorf("starting %s: %w", vm.Name, err)
	}
	return nil
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

// Reset presses the reset button: the guest gets no warning, but what QEMU
// holds is not lost as in a power cut. It does not wait: WaitReady does.
func (vm *VM) Reset() error {
	if vm.run == nil {
		return ErrOff
	}
	vm.run.agent.forget()
	return vm.run.qmp.execute("system_reset", nil, nil)
}

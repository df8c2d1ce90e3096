package vmtest

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

// agentPort is the name of the virtio port between host and guest.
const agentPort = "org.ashlar.vmtest"

//go:embed agent.sh
var agentScript string

// agentUnit is the unit that runs agent.sh. The script travels in base64:
// systemd would expand its dollars and percents. DefaultDependencies=no lets
// commands run while the machine is still starting, or failing to.
func agentUnit() string {
	encoded := base64.StdEncoding.EncodeToString([]byte(agentScript))
	return `[Unit]
Description=Commands from outside the virtual machine
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
Wants=dev-virtio\x2dports-` + agentPort + `.device
After=dev-virtio\x2dports-` + agentPort + `.device basic.target
StartLimitIntervalSec=0

[Service]
ExecStart=/bin/sh -c "mkdir -p -m 0700 /run/vmtest && echo ` + encoded + ` | base64 -d >/run/vmtest/agent && exec /bin/sh /run/vmtest/agent"
Environment=HOME=/root
Restart=always
RestartSec=100ms
KillSignal=SIGKILL
`
}

// Result is what a script in the guest did.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Why a command got no answer.
var (
	ErrOff      = errors.New("the virtual machine is off")
	ErrRebooted = errors.New("the virtual machine, or the agent in it, restarted before the command ended")
)

// agent is the host's end of the port: one command at a time. The port is a
// new connection each time that QEMU is started.
type agent struct {
	busy sync.Mutex // held while a command runs

	mu     sync.Mutex
	conn   io.ReadWriter
	cond   chan struct{} // closed and renewed at every event
	boot   string        // the guest's boot id once its agent is ready
	lives  int           // how often an agent said that it is ready
	lastID int
	result map[int]Result
	closed bool
}

func newAgent() *agent {
	return &agent{cond: make(chan struct{}), result: make(map[int]Result)}
}

// attach takes the guest's end of a machine that was just started. The channel
// is closed when it is gone.
func (a *agent) attach(conn io.ReadWriter) <-chan struct{} {
	a.mu.Lock()
	a.conn = conn
	a.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		a.read(conn)
	}()
	return gone
}

// close tells whoever waits that the machine is off.
func (a *agent) close() {
	a.change(func() { a.closed = true })
}

// change does something to what waiters look at, and wakes them.
func (a *agent) change(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
	close(a.cond)
	a.cond = make(chan struct{})
}

// read takes in the guest's lines until the port is closed. Lines that are
// neither kind are noise of a boot that was cut off.
func (a *agent) read(conn io.Reader) {
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		a.change(func() {
			if boot, ok := strings.CutPrefix(line, "ready "); ok {
				a.boot = strings.TrimSpace(boot)
				a.lives++
			} else if id, res, ok := parseDone(line); ok {
				a.result[id] = res
			}
		})
	}
}

func parseDone(line string) (id int, res Result, ok bool) {
	f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	if len(f) != 5 || f[0] != "done" {
		return 0, res, false
	}
	id, err := strconv.Atoi(f[1])
	code, err2 := strconv.Atoi(f[2])
	out, err3 := base64.StdEncoding.DecodeString(f[3])
	errOut, err4 := base64.StdEncoding.DecodeString(f[4])
	if errors.Join(err, err2, err3, err4) != nil {
		return 0, res, false
	}
	return id, Result{Stdout: string(out), Stderr: string(errOut), Code: code}, true
}

// wait returns when check, called with a.mu held, says it is done.
func (a *agent) wait(ctx context.Context, check func() (bool, error)) error {
	for {
		a.mu.Lock()
		done, err := check()
		closed, event := a.closed, a.cond
		a.mu.Unlock()
		switch {
		case done || err != nil:
			return err
		case closed:
			return ErrOff
		}
		select {
		case <-event:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ready waits for an agent of another boot than previous and returns its boot id.
func (a *agent) ready(ctx context.Context, previous string) (boot string, err error) {
	err = a.wait(ctx, func() (bool, error) {
		boot = a.boot
		return boot != "" && boot != previous, nil
	})
	return boot, err
}

// run has the guest run script with sh.
func (a *agent) run(ctx context.Context, script string) (res Result, err error) {
	a.busy.Lock()
	defer a.busy.Unlock()
	if _, err := a.ready(ctx, ""); err != nil {
		return res, err
	}
	a.mu.Lock()
	a.lastID++
	id, lives, conn := a.lastID, a.lives, a.conn
	a.mu.Unlock()
	line := fmt.Sprintf("%d %s\n", id, base64.StdEncoding.EncodeToString([]byte(script)))
	if _, err := io.WriteString(conn, line); err != nil {
		return res, ErrOff
	}
	err = a.wait(ctx, func() (bool, error) {
		var ok bool
		if res, ok = a.result[id]; ok {
			delete(a.result, id)
			return true, nil
		}
		if a.lives != lives {
			return false, ErrRebooted
		}
		return false, nil
	})
	return res, err
}

// forget makes the agent not ready until the guest's next start.
func (a *agent) forget() {
	a.mu.Lock()
	a.boot = ""
	a.mu.Unlock()
}

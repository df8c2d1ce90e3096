package health

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDefaultRoute(t *testing.T) {
	const (
		head4   = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
		local4  = "eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
		route4  = "eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
		reject4 = "*\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n"
		zero    = "00000000000000000000000000000000"
		lo6     = zero + " 00 " + zero + " 00 " + zero + " ffffffff 00000001 00000000 00200200       lo\n"
		route6  = zero + " 00 " + zero + " 00 fe800000000000000000000000000002 00000400 00000001 00000000 00450003     eth0\n"
	)
	for _, c := range []struct {
		four, six string
		want      bool
	}{
		{head4, "", false}, {head4 + local4, lo6, false}, {head4 + reject4, lo6, false},
		{head4 + local4 + route4, "", true}, {head4, lo6 + route6, true}, {"garbage\n\x00 0 0", "x y", false},
	} {
		root := t.TempDir()
		writeRoutes(t, root, c.four, c.six)
		if got, err := hasDefaultRoute(root); err != nil || got != c.want {
			t.Errorf("%q %q: %t, %v", c.four, c.six, got, err)
		}
	}
	if got, err := hasDefaultRoute(t.TempDir()); err != nil || got {
		t.Errorf("no tables: %t, %v", got, err)
	}
}

func writeRoutes(t *testing.T, root, four, six string) {
	t.Helper()
	dir := filepath.Join(root, "proc/net")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"route": four, "ipv6_route": six} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoRoute(t *testing.T) {
	c := &Checker{Root: t.TempDir(), Config: Config{Network: true, Timeout: 1}, system: up}
	r := check(t, c)
	if r.Good || r.Checks[1].Kind != Network || !strings.HasPrefix(r.Checks[1].Reason, "there is no default route after 1s") {
		t.Errorf("%+v", r)
	}
}

// TestWatchRoutes: a change of the kernel's routes is noticed at once. It is
// made in a network of its own.
func TestWatchRoutes(t *testing.T) {
	type outcome struct {
		n   int
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		// The thread is not used again: it ends with this goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- outcome{0, err}
			return
		}
		watch, err := watchRoutes()
		if err == nil {
			err = upLoopback()
		}
		if err != nil {
			done <- outcome{0, err}
			return
		}
		defer watch.Close()
		watch.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := watch.Read(make([]byte, 64<<10))
		done <- outcome{n, err}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	select {
	case o := <-done:
		if o.err != nil || o.n == 0 {
			t.Errorf("read %d bytes, %v (this test needs root)", o.n, o.err)
		}
	case <-ctx.Done():
		t.Error("nothing was noticed")
	}
}

// upLoopback switches "lo" on, which makes the kernel add its routes.
func upLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

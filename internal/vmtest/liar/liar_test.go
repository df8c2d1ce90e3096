package liar

import (
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLies: QEMU's own client sees a drive of the size that it claims, and what is
// written beyond the real one at the beginning, or nowhere.
func TestLies(t *testing.T) {
	for _, test := range []struct {
		name    string
		wraps   bool
		pattern string // at the beginning, after the second write
	}{{"wraps", true, "0x62"}, {"short", false, "0x61"}} {
		t.Run(test.name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "nbd")
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			served := make(chan error, 1)
			d := &Drive{Claims: 64 << 20, Real: 1 << 20, Wraps: test.wraps}
			go func() { served <- d.Serve(l) }()
			out, err := exec.Command("qemu-io", "-f", "raw", "-c", "write -P 0x61 0 8k", "-c", "write -P 0x62 32M 8k",
				"-c", "flush", "-c", "read -P "+test.pattern+" 0 8k", "-c", "length", "nbd+unix:///?socket="+socket).CombinedOutput()
			if err != nil || strings.Contains(string(out), "failed") || !strings.Contains(string(out), "64 MiB") {
				t.Errorf("qemu-io: %v: %s", err, out)
			}
			l.Close()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

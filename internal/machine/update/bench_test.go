package update

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// BenchmarkCheck is a check that finds nothing new, of a repository that has
// published a hundred releases; the target is 50 ms of processor time.
func BenchmarkCheck(b *testing.B) {
	site, c := updatetest.NewSite(b), updatetest.NewComputer(b)
	w := &world{site: site, c: c}
	v1 := site.Publish(updatetest.Spec{Name: "server", Version: "1.0.0"})
	c.Install(v1, w.origin())
	c.PowerOn(nil)
	site.SignMany("server", 100)
	m, repo := machineOf(c), site.Open()
	if _, err := m.Check(context.Background(), repo, w.wanted()); err != nil {
		b.Fatal(err)
	}
	before := processorTime(b)
	for b.Loop() {
		if f, err := m.Check(context.Background(), repo, w.wanted()); err != nil || f.Verdict != Current {
			b.Fatalf("%+v, %v", f, err)
		}
	}
	b.ReportMetric(float64((processorTime(b)-before)/time.Microsecond)/1000/float64(b.N), "cpu-ms/op")
}

// processorTime is that of this process: of the machine and the site together.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

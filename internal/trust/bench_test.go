package trust

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A check that finds nothing new, of a repository with 200 releases: issue 3
// allows 50 ms of one processor.
func BenchmarkUnchanged(b *testing.B) {
	for _, releases := range []int{1, 200} {
		b.Run(fmt.Sprintf("%d releases", releases), func(b *testing.B) {
			keys, err := madeKeys()
			if err != nil {
				b.Fatal(err)
			}
			e, err := Open(ctx, keys, nil, EditorOptions{Repository: b.Name(), Now: at(today)})
			if err != nil {
				b.Fatal(err)
			}
			for n := range releases {
				version := fmt.Sprintf("1.%d.0", n)
				r := Release{DocumentDigest: artifact(version), Length: 1000}
				if err := put(e.targets, targetPath{kindRelease, server, version}, r, customRelease{artifact(version)}); err != nil {
					b.Fatal(err)
				}
			}
			files, err := e.Sign(ctx)
			if err != nil {
				b.Fatal(err)
			}
			m := &Client{Dir: filepath.Join(b.TempDir(), "trust"), Root: keys.Root(), Image: server, Now: at(today)}
			if _, err := m.Refresh(ctx, files); err != nil {
				b.Fatal(err)
			}
			before := processorTime(b)
			for b.Loop() {
				if v, err := m.Refresh(ctx, files); err != nil || !v.Unchanged {
					b.Fatal(err)
				}
			}
			used := processorTime(b) - before
			b.ReportMetric(float64(used.Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// processorTime is what this process used so far, on all processors.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

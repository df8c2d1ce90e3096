package vmtest

import (
	"context"
	"testing"
	"time"
)

// TestRecording: every start has a log of its own. That the logs hold what was
// written is tested where they are read, package writelog.
func TestRecording(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	disk := testDisk(t)
	vm := New(t, Config{Base: disk, Record: true})
	if at, err := vm.Recorded(); err == nil {
		t.Errorf("before it was on, %+v was recorded", at)
	}
	for n := 1; n <= 2; n++ {
		if err := vm.Start(ctx); err != nil {
			t.Fatal(err)
		}
		at, err := vm.Recorded()
		if err != nil || at != (Position{}) || len(vm.Recording()) != n {
			t.Errorf("start %d: the logs are %q, at %+v, %v", n, vm.Recording(), at, err)
		}
		vm.PowerCut()
	}
	plain := New(t, Config{Name: "plain", Base: disk})
	if err := plain.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if at, err := plain.Recorded(); err == nil {
		t.Errorf("a machine that does not record is at %+v", at)
	}
}

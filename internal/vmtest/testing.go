package vmtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// New makes a VM for a test and puts it away at the test's end. When the
// config names no directory, the console's log is kept in one that is named
// after the test and emptied by its next run; a test that fails says where.
func New(t testing.TB, cfg Config) *VM {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "vm"
	}
	if cfg.Dir == "" {
		name := strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()) + "-" + cfg.Name
		cfg.Dir = filepath.Join(os.TempDir(), fmt.Sprintf("ashlar-vmtest-%d", os.Getuid()), name)
		if err := os.RemoveAll(cfg.Dir); err != nil {
			t.Fatal(err)
		}
	}
	vm, err := Create(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s: the console's log is %s", vm.Name, vm.Log)
		}
		if err := vm.Close(); err != nil {
			t.Error(err)
		}
	})
	return vm
}

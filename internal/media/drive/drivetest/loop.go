// Package drivetest gives tests drives: made-up computers full of them, and loop
// devices, which only root can make.
package drivetest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/program"
)

// Loop makes a drive of size bytes, and returns its path and the file behind it.
func Loop(t testing.TB, size int64) (drive, file string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes loop devices: run it as root")
	}
	file = filepath.Join(t.TempDir(), "drive")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	drive = strings.TrimSpace(Run(t, "losetup", "--find", "--show", file))
	t.Cleanup(func() { Run(t, "losetup", "--detach", drive) })
	return drive, file
}

// Run runs a program that must succeed.
func Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := program.Run(context.Background(), program.Command{Args: args})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

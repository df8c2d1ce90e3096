package sysroot

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestWritable: what Writable calls can write to what is read-only, and nothing else
// in the process can, before, meanwhile and after. The test runs itself where there
// is a read-only mount.
func TestWritable(t *testing.T) {
	const variable = "ASHLAR_TEST_READ_ONLY"
	dir := os.Getenv(variable)
	if dir == "" {
		args := []string{"--mount"}
		if os.Geteuid() != 0 {
			args = append(args, "--user", "--map-root-user")
		}
		cmd := exec.Command("unshare", append(args, "sh", "-ec",
			`mount -t tmpfs none "$DIR"; mount -o remount,bind,ro "$DIR"; exec "$SELF" -test.run '^TestWritable$' -test.v`)...)
		dir := t.TempDir()
		cmd.Env = append(os.Environ(), "DIR="+dir, "SELF="+os.Args[0], variable+"="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	name := filepath.Join(dir, "x")
	write := func(text string) error { return os.WriteFile(name, []byte(text), 0o644) }
	readOnly := func(when string) {
		if err := write("wrong"); !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v", when, err)
		}
		if err := exec.Command("sh", "-c", `echo wrong > "$0"`, name).Run(); err == nil {
			t.Errorf("%s: another program could write", when)
		}
	}
	readOnly("before")
	began, end := make(chan bool), make(chan bool)
	done := make(chan error)
	go func() {
		done <- Writable(dir, func() error {
			began <- true
			<-end
			return write("right")
		})
	}()
	<-began
	readOnly("meanwhile")
	end <- true
	if err := <-done; err != nil {
		t.Error(err)
	}
	readOnly("after")
	if b, err := os.ReadFile(name); string(b) != "right" {
		t.Errorf("%q, %v", b, err)
	}
	reason := errors.New("a reason")
	if err := Writable(dir, func() error { return reason }); !errors.Is(err, reason) {
		t.Error(err)
	}
}

package limited

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAll(t *testing.T) {
	for _, test := range []struct {
		content string
		limit   int64
		long    bool
	}{
		{"", 0, false}, {"abc", 3, false}, {"abcd", 3, true}, {"a", 0, true},
	} {
		b, err := All(strings.NewReader(test.content), test.limit)
		if errors.Is(err, ErrTooLong) != test.long || !test.long && (err != nil || string(b) != test.content) {
			t.Errorf("All(%q, %d) gives %q, %v", test.content, test.limit, b, err)
		}
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("abcd"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := File(path, 4); err != nil || string(b) != "abcd" {
		t.Errorf("it reads %q, %v", b, err)
	}
	if _, err := File(path, 3); err == nil || err.Error() != `"`+path+`": it is too long: at most 3 bytes are allowed` {
		t.Errorf("of a longer file it says %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, dir} {
		if _, err := File(path, 3); err == nil || err.Error() != `"`+path+`" is not a regular file` {
			t.Errorf("of what is no file it says %v", err)
		}
	}
}

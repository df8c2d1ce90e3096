package trust

import (
	"bytes"
	"strings"
	"testing"
)

func TestCheckRoot(t *testing.T) {
	keys, err := Init(t.Context(), t.TempDir(), InitOptions{
		Holders: 2, Threshold: 2, Passphrase: func(Ask) ([]byte, error) { return []byte("swordfish"), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	root := keys.Root()
	if err := CheckRoot(root); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":     {nil, "not a JSON object"},
		"not a root":  {[]byte(`{"signed":{"_type":"targets"},"signatures":[]}`), ""},
		"changed":     {bytes.Replace(root, []byte(`"version":1`), []byte(`"version":2`), 1), "not signed by enough of its holders"},
		"far too big": {bytes.Repeat([]byte(" "), maxRoot+1), "no honest repository needs"},
	} {
		if err := CheckRoot(c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

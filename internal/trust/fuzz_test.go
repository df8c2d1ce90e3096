package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"testing"
)

// Whatever a source holds, a refresh ends with a sentence of a known kind, and
// without a panic; only what was signed is accepted.
func FuzzRefresh(f *testing.F) {
	keys, err := madeKeys()
	if err != nil {
		f.Fatal(err)
	}
	e, err := Open(ctx, keys, nil, EditorOptions{Repository: "fuzz", Now: at(today)})
	if err != nil {
		f.Fatal(err)
	}
	genuine, err := e.Sign(ctx)
	if err != nil {
		f.Fatal(err)
	}
	names := append(genuine.Names(), "2.root.json")
	for i, name := range names {
		f.Add(uint8(i), []byte(genuine[name]))
		f.Add(uint8(i), []byte(`{"signed":{"_type":"timestamp","meta":{"snapshot.json":null}},"signatures":[]}`))
		f.Add(uint8(i), []byte(`{"signed":{"_type":"root","keys":{"a":null},"roles":{"root":null}},"signatures":[{"keyid":"a","sig":""}]}`))
		f.Add(uint8(i), []byte(`{"signed":{"_type":"targets","targets":{"a":null},"delegations":{"roles":[{}]}}}`))
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		name := names[int(which)%len(names)]
		files := maps.Clone(genuine)
		files[name] = data
		m := &Client{Root: keys.Root(), Image: server, Now: at(today)}
		v, err := m.Refresh(ctx, files)
		if err == nil && name != "1.root.json" && !sameJSON(data, genuine[name]) {
			t.Errorf("%s: accepted %q", name, data)
		}
		if err != nil && !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			v.Signed()
		}
		// The same bytes where the image's root, the keyring and requests are read.
		m.Root = data
		if _, err := m.Refresh(ctx, genuine); err == nil && !sameJSON(data, keys.Root()) {
			t.Errorf("accepted as the first root: %q", data)
		}
		if r, err := DecodeRequest(data); err == nil {
			_, _ = r.parse()
		}
	})
}

// sameJSON compares what is signed.
func sameJSON(a, b []byte) bool {
	type file struct {
		Signed any `json:"signed"`
	}
	var x, y file
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}

// FuzzParsePath: a name that is accepted is one that is written.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"releases/server/amd64/1.0.0", "channels/server/amd64/stable", "../x", "later/a", "withdrawn/a/b/1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := parsePath(s); err == nil && p.image != (Target{}) && p.String() != s {
			t.Errorf("%q is read as %q", s, p)
		}
	})
}

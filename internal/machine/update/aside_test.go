package update

import (
	"encoding/json"
	"testing"
)

func FuzzDecodeAside(f *testing.F) {
	f.Add([]byte(`{"schema":1,"role":"failed","tries":3}`))
	f.Add([]byte(`{"schema":1,"role":"retired","tries":0}`))
	f.Add([]byte(`{"schema":2,"role":"failed","tries":3}`))
	f.Add([]byte(`{"schema":1,"role":"running","tries":-1,"more":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeAside(b)
		if err != nil {
			return
		}
		if a.Schema != asideSchema || a.Tries < 0 || a.Role != Failed && a.Role != Retired {
			t.Fatalf("%q is taken for %+v", b, a)
		}
		again, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := decodeAside(again); err != nil || *c != *a {
			t.Fatalf("%+v reads back as %+v, %v", a, c, err)
		}
	})
}

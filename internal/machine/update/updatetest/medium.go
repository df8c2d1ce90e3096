package updatetest

import (
	"context"
	"os"
	"path/filepath"
)

// Medium is an install medium of a release, as it was when it was written.
type Medium struct {
	Document []byte
	Trust    map[string][]byte
	Payload  string // a directory
}

// WriteMedium writes a release, and what is signed at this moment, to a medium.
func (s *Site) WriteMedium(rel *Release) Medium {
	s.t.Helper()
	document, err := rel.Document.Encode()
	must(s.t, err)
	m := Medium{Document: document, Trust: map[string][]byte{}, Payload: s.t.TempDir()}
	signed, err := s.Open().ReadTrust(context.Background())
	must(s.t, err)
	for _, name := range signed.Names() {
		m.Trust[name], err = signed.File(context.Background(), name, 1<<30)
		must(s.t, err)
	}
	write := func(name string, b []byte) {
		path := filepath.Join(m.Payload, name)
		must(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(s.t, os.WriteFile(path, b, 0o644))
	}
	for d, b := range rel.Objects {
		hex := d.String()
		write("objects/"+hex[:2]+"/"+hex[2:], b)
	}
	write("images/"+rel.Image().String(), rel.EROFS)
	write("boot.efi", rel.UKI)
	write("loader.efi", []byte("loader"))
	return m
}

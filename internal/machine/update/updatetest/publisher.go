package updatetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// Publisher has real keys. Its passphrases are opened once for all tests of a
// process, because that is made to be slow.
type Publisher struct {
	files   map[string][]byte // of the directory of keys
	signers []trust.Signer
}

// Passphrase opens every key of every publisher here.
const Passphrase = "swordfish"

// Publishers of tests: one that machines come with, and a stranger.
var (
	Acme     = sync.OnceValue(newPublisher)
	Stranger = sync.OnceValue(newPublisher)
)

func newPublisher() *Publisher {
	p := &Publisher{files: make(map[string][]byte)}
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ring, err := trust.Init(context.Background(), dir, trust.InitOptions{
		Holders: 1, Threshold: 1, Passphrase: func(trust.Ask) ([]byte, error) { return []byte(Passphrase), nil },
	})
	if err != nil {
		panic(err)
	}
	keys, err := ring.Keys()
	if err != nil {
		panic(err)
	}
	for _, key := range keys {
		signer, err := ring.Signer(context.Background(), key.ID)
		if err != nil {
			panic(err)
		}
		p.signers = append(p.signers, signer)
	}
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err == nil {
			p.files[name], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		panic(err)
	}
	return p
}

// Keyring is the publisher's keys in a directory of their own, open.
func (p *Publisher) Keyring(t testing.TB) *trust.Keyring {
	t.Helper()
	dir := t.TempDir()
	for name, b := range p.files {
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	ring, err := trust.OpenKeyring(dir, nil)
	must(t, err)
	for _, signer := range p.signers {
		ring.Lend(signer)
	}
	return ring
}

// Root is the publisher's first root, as an image holds it.
func (p *Publisher) Root() []byte { return p.files["root.json"] }

// Sign changes what the site says, and signs it, by the site's clock.
func (s *Site) Sign(change func(*trust.Editor) error) {
	s.t.Helper()
	must(s.t, s.TrySign(change))
}

// TrySign is Sign for what may be refused.
func (s *Site) TrySign(change func(*trust.Editor) error) error {
	s.t.Helper()
	ctx, repo := context.Background(), s.Layout()
	before, err := repo.ReadTrust(ctx)
	var src trust.Source
	if err == nil {
		src = before
	} else {
		before = nil
	}
	editor, err := trust.Open(ctx, s.Keys, src, trust.EditorOptions{Repository: s.Dir, Image: s.image, Now: s.Now})
	if err != nil {
		return err
	}
	if change != nil {
		if err := change(editor); err != nil {
			return err
		}
	}
	files, err := editor.Sign(ctx)
	if err != nil {
		return err
	}
	if err := repo.WriteTrust(ctx, files, before); err != nil {
		return err
	}
	return editor.Published(ctx)
}

// Layout is the site as its publisher opens it.
func (s *Site) Layout() *registry.Repository { return s.layout.Repository() }

// signRelease signs what was just written under a digest, and lets channels name it.
func (s *Site) signRelease(index digest.Digest, channels []string) {
	s.t.Helper()
	rel, err := s.Layout().ReadRelease(context.Background(), index.String())
	must(s.t, err)
	s.image = trust.Target{Name: rel.Document.Name, Architecture: rel.Document.Architecture}
	s.Sign(func(e *trust.Editor) error {
		if err := e.AddRelease(rel.DocumentBytes, rel.Manifest.Digest); err != nil {
			return err
		}
		for _, channel := range channels {
			if err := e.SetChannel(channel, rel.Document.Version); err != nil {
				return err
			}
		}
		return nil
	})
}

// SignMany signs documents of releases that are nowhere else: versions 0.0.1 to 0.0.n.
func (s *Site) SignMany(name string, n int) {
	s.t.Helper()
	rel, err := s.Layout().ReadRelease(context.Background(), "stable")
	must(s.t, err)
	s.Sign(func(e *trust.Editor) error {
		for i := range n {
			doc := *rel.Document
			doc.Name, doc.Version = name, fmt.Sprintf("0.0.%d", i+1)
			doc.ID = doc.Name + "-" + doc.Version
			b, err := doc.Encode()
			if err != nil {
				return err
			}
			if err := e.AddRelease(b, digest.FromBytes(b)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Shown is what the site's tag of signed metadata names at a moment. Show puts it
// back, as whoever may write to a registry can.
func (s *Site) Shown() ocispec.Descriptor {
	s.t.Helper()
	desc, err := s.Layout().Resolve(context.Background(), registry.TagTrust)
	must(s.t, err)
	return desc
}

// Show lets the tag of signed metadata name what it named before.
func (s *Site) Show(desc ocispec.Descriptor) {
	s.t.Helper()
	must(s.t, s.layout.SetTags(desc, registry.TagTrust))
}

// Metadata reads every file of the signed metadata.
func (s *Site) Metadata() map[string][]byte {
	s.t.Helper()
	ctx := context.Background()
	list, err := s.Layout().ReadTrust(ctx)
	must(s.t, err)
	files := make(map[string][]byte)
	for _, name := range list.Names() {
		files[name], err = list.File(ctx, name, 5<<20)
		must(s.t, err)
	}
	return files
}

// Forge puts files in the place of the signed metadata, whatever they are.
func (s *Site) Forge(files map[string][]byte) {
	s.t.Helper()
	ctx := context.Background()
	before, err := s.Layout().ReadTrust(ctx)
	must(s.t, err)
	must(s.t, s.Layout().WriteTrust(ctx, files, before))
}

// Withdraw takes a release back.
func (s *Site) Withdraw(version, reason string) {
	s.t.Helper()
	s.Sign(func(e *trust.Editor) error { return e.Withdraw(version, reason) })
}

// Ago lets the site sign as it did some time ago.
func (s *Site) Ago(d time.Duration) {
	s.Now = func() time.Time { return time.Now().Add(-d) }
}

package trust

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/opencontainers/go-digest"
)

var (
	today   = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	server  = Target{Name: "server", Architecture: "amd64"}
	secrets = func(Ask) ([]byte, error) { return []byte("correct horse"), nil }
)

// madeKeys is one keyring for all tests, because making keys takes time (which
// is what scrypt is for): 3 holders, 2 of whom must sign.
var madeKeys = sync.OnceValues(func() (*Keyring, error) {
	dir, err := os.MkdirTemp("", "ashlar-trust-keys-")
	if err != nil {
		return nil, err
	}
	return Init(ctx, filepath.Join(dir, "keys"), InitOptions{Holders: 3, Threshold: 2, Passphrase: secrets, Now: at(today)})
})

func TestMain(m *testing.M) {
	code := m.Run()
	if k, err := madeKeys(); err == nil {
		os.RemoveAll(filepath.Dir(k.dir))
	}
	os.Exit(code)
}

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// newKeyring copies the keyring; its keys are open already.
func newKeyring(t *testing.T) *Keyring {
	t.Helper()
	made, err := madeKeys()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.CopyFS(dir, os.DirFS(made.dir)); err != nil {
		t.Fatal(err)
	}
	keys, err := filepath.Glob(filepath.Join(dir, "*.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys { // CopyFS adds the umask's bits
		if err := os.Chmod(key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return reopen(t, dir, made)
}

// reopen opens a keyring again, with the keys that another one has open.
func reopen(t *testing.T, dir string, lender *Keyring) *Keyring {
	t.Helper()
	k, err := OpenKeyring(dir, secrets)
	if err != nil {
		t.Fatal(err)
	}
	for id, s := range lender.open {
		if k.files[id] != "" {
			k.Lend(s)
		}
	}
	return k
}

// document is a release document.
func document(t *testing.T, image Target, version string) []byte {
	t.Helper()
	file := release.File{SHA256: strings.Repeat("1", 64), Size: 100}
	d := &release.Document{
		Schema: release.Schema, ID: image.Name + "-" + version, Name: image.Name, Version: version, Architecture: image.Architecture,
		Created: "2026-11-01T12:00:00Z",
		Images:  []release.Image{{Role: release.RoleRoot, Digest: verity.Digest{0xab, 31: 0xcd}, Size: 4096, Objects: 3, Bytes: 12345}},
		UKI:     file, Pack: file, PackIndex: file, SBOM: file, Lock: file, RuleSet: release.RuleSet, Builder: "ashlar test",
	}
	data, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func artifact(version string) digest.Digest { return digest.FromString("artifact of " + version) }

// publisher is somebody with keys, who publishes one repository.
type publisher struct {
	t     *testing.T
	keys  *Keyring
	files Files // what is published
	now   time.Time
	name  string
}

func newPublisher(t *testing.T) *publisher {
	return &publisher{t: t, keys: newKeyring(t), now: today, name: "registry.example/acme/server"}
}

func (p *publisher) open() *Editor {
	p.t.Helper()
	var src Source
	if p.files != nil {
		src = p.files
	}
	e, err := Open(ctx, p.keys, src, EditorOptions{Repository: p.name, Now: at(p.now)})
	if err != nil {
		p.t.Fatal(err)
	}
	return e
}

// publish signs and publishes what edit does.
func (p *publisher) publish(edit func(e *Editor) error) Files {
	p.t.Helper()
	e := p.open()
	if edit != nil {
		if err := edit(e); err != nil {
			p.t.Fatal(err)
		}
	}
	files, err := e.Sign(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := e.Published(ctx); err != nil {
		p.t.Fatal(err)
	}
	p.files = files
	return files
}

// release publishes a version in stable.
func (p *publisher) release(version string) Files {
	p.t.Helper()
	return p.publish(func(e *Editor) error {
		if err := e.AddRelease(document(p.t, server, version), artifact(version)); err != nil {
			return err
		}
		return e.SetChannel("stable", version)
	})
}

// machine is a client of what the publisher's first root began.
func (p *publisher) machine() *Client {
	return &Client{Dir: filepath.Join(p.t.TempDir(), "trust"), Root: p.keys.oldestRoot(), Image: server, Now: at(p.now)}
}

// rotate makes and commits a new root.
func (p *publisher) rotate(edit func(c *RootChange) error) {
	p.t.Helper()
	c, err := p.keys.ChangeRoot(RootOptions{Now: at(p.now)})
	if err != nil {
		p.t.Fatal(err)
	}
	if err := edit(c); err != nil {
		p.t.Fatal(err)
	}
	if err := c.Sign(ctx); err != nil {
		p.t.Fatal(err)
	}
	if err := c.Commit(); err != nil {
		p.t.Fatal(err)
	}
}

package trust

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// peer is a small client over go-tuf's public API alone: over HTTP, with the
// files laid out as TUF has them, in the order of the specification. Nothing of
// this package reads a byte for it.
type peer struct {
	t    *testing.T
	site string // the directory that is served
	url  string
	root []byte // the newest it trusts
	kept []byte // the timestamp it accepted
}

func newPeer(t *testing.T, root []byte) *peer {
	t.Helper()
	site := t.TempDir()
	server := httptest.NewServer(http.FileServer(http.Dir(site)))
	t.Cleanup(server.Close)
	return &peer{t: t, site: site, url: server.URL, root: root}
}

// serve lays files out: metadata by its names, documents under their hashes.
func (p *peer) serve(files Files, documents map[string][]byte) {
	p.t.Helper()
	meta := filepath.Join(p.site, "metadata")
	if err := os.RemoveAll(meta); err != nil {
		p.t.Fatal(err)
	}
	for name, data := range files {
		p.write(filepath.Join(meta, name), data)
	}
	for name, data := range documents {
		hashed := filepath.Join(filepath.Dir(name), digest.FromBytes(data).Encoded()+"."+filepath.Base(name))
		p.write(filepath.Join(p.site, "targets", hashed), data)
	}
}

func (p *peer) write(file string, data []byte) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// get fetches a file, or nil when it is not there.
func (p *peer) get(name string) ([]byte, error) {
	resp, err := http.Get(p.url + "/" + name)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	return io.ReadAll(resp.Body)
}

// refresh is one run of the client workflow.
func (p *peer) refresh(now time.Time) (*trustedmetadata.TrustedMetadata, error) {
	tuf, err := trustedmetadata.New(p.root)
	if err != nil {
		return nil, err
	}
	tuf.RefTime = now
	root := p.root
	for {
		data, err := p.get(fmt.Sprintf("metadata/%d.root.json", tuf.Root.Signed.Version+1))
		if err != nil {
			return nil, err
		}
		if data == nil {
			break
		}
		if _, err := tuf.UpdateRoot(data); err != nil {
			return nil, err
		}
		root = data
	}
	if p.kept != nil {
		_, _ = tuf.UpdateTimestamp(p.kept) // of no use after its key was replaced
	}
	stamp, err := p.get("metadata/timestamp.json")
	if err != nil {
		return nil, err
	}
	if _, err := tuf.UpdateTimestamp(stamp); err != nil && !errors.Is(err, &metadata.ErrEqualVersionNumber{}) {
		return nil, err
	}
	data, err := p.get(fmt.Sprintf("metadata/%d.snapshot.json", tuf.Timestamp.Signed.Meta["snapshot.json"].Version))
	if err != nil {
		return nil, err
	}
	if _, err := tuf.UpdateSnapshot(data, false); err != nil {
		return nil, err
	}
	if err := p.targets(tuf, "targets", "root"); err != nil {
		return nil, err
	}
	for _, role := range tuf.Targets["targets"].Signed.Delegations.Roles {
		if err := p.targets(tuf, role.Name, "targets"); err != nil {
			return nil, err
		}
	}
	p.root, p.kept = root, stamp
	return tuf, nil
}

func (p *peer) targets(tuf *trustedmetadata.TrustedMetadata, role, by string) error {
	data, err := p.get(fmt.Sprintf("metadata/%d.%s.json", tuf.Snapshot.Signed.Meta[role+".json"].Version, role))
	if err != nil {
		return err
	}
	_, err = tuf.UpdateDelegatedTargets(data, role, by)
	return err
}

// download fetches a target by the role that is responsible for its name.
func (p *peer) download(tuf *trustedmetadata.TrustedMetadata, name string) []byte {
	p.t.Helper()
	file := tuf.Targets["targets"].Signed.Targets[name]
	if file == nil {
		for _, role := range tuf.Targets["targets"].Signed.Delegations.GetRolesForTarget(name) {
			file = tuf.Targets[role.Name].Signed.Targets[name]
		}
	}
	if file == nil {
		p.t.Fatalf("nobody signed %s", name)
	}
	data, err := p.get("targets/" + path.Dir(name) + "/" + file.Hashes["sha256"].String() + "." + path.Base(name))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := file.VerifyLengthHashes(data); err != nil {
		p.t.Fatal(err)
	}
	return data
}

// Another TUF client verifies what an editor made, through a rotation of every
// key, and refuses what our client refuses.
func TestAnotherTUFClient(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0")
	peer := newPeer(t, p.keys.Root())
	docs := map[string][]byte{}
	for _, version := range []string{"1.0.0", "1.1.0"} {
		docs["releases/server/amd64/"+version] = document(t, server, version)
	}
	docs["channels/server/amd64/stable"] = docs["releases/server/amd64/1.0.0"]
	peer.serve(p.files, docs)
	u, err := peer.refresh(today)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"releases/server/amd64/1.0.0", "channels/server/amd64/stable"} {
		if got := peer.download(u, name); string(got) != string(docs[name]) {
			t.Errorf("%s is another document", name)
		}
	}

	p.rotate(func(c *RootChange) error {
		ids, _ := rootRole(c.next, RoleRoot)
		for _, err := range []error{c.Replace(RoleTargets), c.Replace(RoleSnapshot), c.Replace(RoleTimestamp), c.ReplaceHolder(ids[0])} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	older := p.publish(func(e *Editor) error {
		if err := e.AddRelease(docs["releases/server/amd64/1.1.0"], artifact("1.1.0")); err != nil {
			return err
		}
		return e.ReplaceChannelsKey()
	})
	p.publish(func(e *Editor) error { return e.SetChannel("stable", "1.1.0") })
	docs["channels/server/amd64/stable"] = docs["releases/server/amd64/1.1.0"]
	peer.serve(p.files, docs)
	if u, err = peer.refresh(today); err != nil {
		t.Fatal(err)
	}
	if got := peer.download(u, "channels/server/amd64/stable"); string(got) != string(docs["releases/server/amd64/1.1.0"]) {
		t.Error("stable is another document")
	}

	if _, err := peer.refresh(today.Add(8 * day)); err == nil {
		t.Error("the peer takes what is stale")
	}
	peer.serve(older, docs)
	if _, err := peer.refresh(today); err == nil {
		t.Error("the peer takes what is older")
	}
}

package trust

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

// updaterPeer is a client that is not ours: go-tuf's updater, over HTTP, with the files
// laid out as TUF has them.
type updaterPeer struct {
	t    *testing.T
	site string // the directory that is served
	url  string
	dir  string // what it keeps
	root []byte
}

func newUpdaterPeer(t *testing.T, root []byte) *updaterPeer {
	t.Helper()
	site := t.TempDir()
	server := httptest.NewServer(http.FileServer(http.Dir(site)))
	t.Cleanup(server.Close)
	return &updaterPeer{t: t, site: site, url: server.URL, dir: t.TempDir(), root: root}
}

// serve lays files out: metadata by its names, documents under their hashes.
func (p *updaterPeer) serve(files Files, documents map[string][]byte) {
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

func (p *updaterPeer) write(path string, data []byte) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// refresh is a new run of the peer over what it kept.
func (p *updaterPeer) refresh(now time.Time) (*updater.Updater, error) {
	cfg, err := config.New(p.url+"/metadata", p.root)
	if err != nil {
		return nil, err
	}
	cfg.RemoteTargetsURL = p.url + "/targets"
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = filepath.Join(p.dir, "metadata"), filepath.Join(p.dir, "targets")
	u, err := updater.New(cfg)
	if err != nil {
		return nil, err
	}
	u.UnsafeSetRefTime(now)
	return u, u.Refresh()
}

// download fetches a target that the peer believes.
func (p *updaterPeer) download(u *updater.Updater, name string) []byte {
	p.t.Helper()
	info, err := u.GetTargetInfo(name)
	if err != nil {
		p.t.Fatal(err)
	}
	_, data, err := u.DownloadTarget(info, filepath.Join(p.dir, "got"), "")
	if err != nil {
		p.t.Fatal(err)
	}
	return data
}

// Another TUF client verifies what an editor made, through a rotation of every
// key, and refuses what our client refuses.
func TestGoTUFUpdater(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0")
	peer := newUpdaterPeer(t, p.keys.Root())
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
	peer.root = p.keys.Root() // what it kept last; it would begin again from another
	if _, err := peer.refresh(today); err == nil {
		t.Error("the peer takes what is older")
	}
}

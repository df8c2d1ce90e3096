package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// startTestRegistry runs an empty docker-registry.
func startTestRegistry(t *testing.T) string {
	t.Helper()
	address, stop, err := runRegistry(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return address
}

// publisher publishes from a layout of releases to a repository, as people do.
type publisher struct {
	*fakeMachine
	keys       string
	repository string
}

func (p *publisher) release(version string) *updatetest.Release {
	p.t.Helper()
	rel := p.site.Publish(updatetest.Spec{Name: "server", Version: version, Unsigned: true})
	p.ok("published server "+version, "publish", p.site.Dir+":"+version, p.repository, "--channel", "stable", "--keys", p.keys)
	return rel
}

// TestSignedLife: machines follow what a publisher says with the commands, from
// the first release over a theft and a withdrawal to a mirror; and a thief gets
// nowhere.
func TestSignedLife(t *testing.T) {
	t.Setenv(passphraseVariable, updatetest.Passphrase)
	site := updatetest.NewSite(t)
	p := &publisher{
		&fakeMachine{t, site, updatetest.NewComputer(t)}, site.Keys.Dir(), startTestRegistry(t) + "/acme/server",
	}
	v1 := p.release("1.0.0")
	p.c.Install(v1, store.Origin{Repository: p.repository, Channel: "stable"})
	p.boot(nil)
	p.ok("server-1.0.0 is running", "update")
	v2 := p.release("2.0.0")
	p.ok("server-2.0.0 is staged", "update")
	p.boot(nil)
	p.boots(v2)

	// All keys but the root's are stolen, and the publisher has new ones made.
	stolen, evil := filepath.Join(t.TempDir(), "stolen"), filepath.Join(t.TempDir(), "evil")
	if err := os.CopyFS(stolen, os.DirFS(p.keys)); err != nil {
		t.Fatal(err)
	}
	keys, err := filepath.Glob(filepath.Join(stolen, "*.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if err := os.Chmod(key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(stolen, "root-1.key")); err != nil {
		t.Fatal(err)
	}
	p.ok("copied a signed repository", "publish", p.repository, "oci:"+evil)
	p.ok("revokes the targets key", "keys", "rotate", "targets", "--keys", p.keys, "--repository", p.repository)
	p.ok("server-2.0.0 is running", "update")

	// The thief signs on in a copy, as if nothing had happened, and gets a machine
	// to look there. It knows the new root.
	p.site.Publish(updatetest.Spec{Name: "server", Version: "6.6.6", Unsigned: true})
	p.ok("published server 6.6.6", "publish", p.site.Dir+":6.6.6", "oci:"+evil, "--channel", "stable", "--keys", stolen)
	p.ok("refreshed", "trust", "refresh", "oci:"+evil, "--keys", stolen, "--force") // newer than the true one
	p.fails(exitUntrusted, "the targets of this repository are not signed by the key that must", "switch", "oci:"+evil)
	p.boots(v2)

	// A release is taken back: its machines are told, others never take it.
	v3 := p.release("3.0.0")
	p.ok("is withdrawn: loses mail", "channel", "withdraw", p.repository, "3.0.0", "--reason", "loses mail", "--keys", p.keys)
	p.ok("server-3.0.0 was withdrawn by its publisher: loses mail", "update")
	p.boots(v2)
	p.ok("no longer withdrawn", "channel", "withdraw", p.repository, "3.0.0", "--undo", "--keys", p.keys)
	p.ok("refreshed", "trust", "refresh", p.repository, "--keys", p.keys, "--force")

	// Who copies all of it, with a tool that knows nothing of Ashlar, changes
	// nothing of what it is.
	mirror := startTestRegistry(t) + "/mirror"
	out, err := exec.Command("skopeo", "sync", "--all", "--src-tls-verify=false", "--dest-tls-verify=false",
		"--src", "docker", "--dest", "docker", p.repository, mirror).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p.ok("server-3.0.0 is staged", "switch", mirror+"/server")
	p.boots(v3)
	p.ok("believed", "trust", "show", mirror+"/server") // by the machine's own keys
}

// TestTrustShowStale: what is past its time is shown all the same.
func TestTrustShowStale(t *testing.T) {
	t.Setenv(passphraseVariable, updatetest.Passphrase)
	t.Setenv("ASHLAR_ROOT", t.TempDir())
	site := updatetest.NewSite(t)
	site.Ago(10 * 24 * time.Hour)
	site.Publish(updatetest.Spec{Name: "server", Version: "1.0.0"})
	root := filepath.Join(site.Keys.Dir(), "root.json")

	out, errs, code := ashlar(t, "trust", "show", site.Repository, "--root", root)
	if code != exitStale || !strings.Contains(out, "stable names 1.0.0") || !strings.Contains(errs, "the timestamp of this repository expired on") {
		t.Errorf("show: %d\n%s%s", code, out, errs)
	}
	if out, errs, code = ashlar(t, "inspect", "--signed", site.Repository, "--root", root); code != exitStale || out != "" {
		t.Errorf("inspect: %d\n%s%s", code, out, errs)
	}
	// Its publisher signs anew, without --force, and all is well.
	out, errs, code = ashlar(t, "trust", "refresh", "oci:"+site.Dir, "--keys", site.Keys.Dir())
	if code != exitOK || !strings.Contains(out, "refreshed") {
		t.Errorf("refresh: %d\n%s%s", code, out, errs)
	}
	if out, errs, code = ashlar(t, "trust", "show", site.Repository, "--root", root); code != exitOK {
		t.Errorf("show again: %d\n%s%s", code, out, errs)
	}
}

//go:build vm

package vm

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/ashlar-os/ashlar/test/fixture"
)

// site is the repository that a story's machines follow.
type site struct {
	*fixture.Fixture
	*fixture.Server
	t *testing.T
}

// openSite serves a repository whose channel "stable" names one release.
func openSite(t *testing.T, version string, wrap ...func(http.Handler) http.Handler) *site {
	t.Helper()
	s := &site{Fixture: fx.SiteIn(filepath.Join(fx.Dir, t.Name(), "site")), t: t}
	s.publish(version)
	var outer func(http.Handler) http.Handler
	if len(wrap) == 1 {
		outer = wrap[0]
	}
	server, err := s.Serve(outer)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = server
	t.Cleanup(server.Close)
	return s
}

// publish moves the channel.
func (s *site) publish(version string) {
	s.t.Helper()
	if err := s.Publish(context.Background(), version); err != nil {
		s.t.Fatal(err)
	}
}

// follow makes the machine look for its updates at the site.
func (m *machine) follow(s *site) {
	m.t.Helper()
	m.sh("ashlar switch " + s.Reference + ":stable")
}

package compose

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/publish/recipe"
	"github.com/ashlar-os/ashlar/internal/registry"
)

// TestBaseRegistryOptions: the base image is asked for as the caller says,
// with its proxy, credentials and name.
func TestBaseRegistryOptions(t *testing.T) {
	var agents []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agents = append(agents, r.UserAgent())
		http.NotFound(w, r)
	}))
	defer s.Close()
	_, err := Compose(context.Background(), Options{
		Recipe: &recipe.Recipe{Name: "small", Version: "1", Base: recipe.Base{
			Kind: recipe.BaseOCI, Image: strings.TrimPrefix(s.URL, "http://") + "/base:stable", Architecture: "amd64"}},
		WorkDir:  t.TempDir(),
		Registry: registry.Options{UserAgent: "the caller"},
	})
	if err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("got %v", err)
	}
	if len(agents) != 1 || agents[0] != "the caller" {
		t.Errorf("asked as %q, want once, as the caller", agents)
	}
}

// TestLockMisfit: a lock that cannot be built from says so, and what helps.
func TestLockMisfit(t *testing.T) {
	r := &recipe.Recipe{Name: "small", Version: "1", Base: recipe.Base{Kind: recipe.BaseDirectory, Path: "/nowhere", Architecture: "amd64"}}
	for want, lock := range map[string]*recipe.Lock{
		`of recipe "large"`: {Recipe: "large", Inputs: r.InputsDigest(), RuleSet: 1},
		"does not fit":      {Recipe: "small", Inputs: "sha256:other", RuleSet: 1},
		"of rule-set 99":    {Recipe: "small", Inputs: r.InputsDigest(), RuleSet: 99},
	} {
		_, err := Compose(context.Background(), Options{Recipe: r, Lock: lock, WorkDir: t.TempDir()})
		var hinted interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		} else if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "lock") {
			t.Errorf("%v has no hint", err)
		}
	}
}

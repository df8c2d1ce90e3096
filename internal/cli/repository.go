package cli

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/ashlar-os/ashlar/internal/registry"
)

// repositoryOptions is how every verb reaches a registry: with the proxy of the
// environment, and with the credentials that `podman login`, `skopeo login` or
// `docker login` left.
func repositoryOptions() registry.Options {
	return registry.Options{
		UserAgent:       "ashlar/" + version(),
		Proxy:           http.ProxyFromEnvironment,
		CredentialFiles: credentialFiles(os.Getenv),
	}
}

// openRepository opens what a person or a deployment names. "http://" before the
// name is the word for a host that speaks plain HTTP; nothing is taken to do so
// by itself but the loopback.
func openRepository(ref string) (*registry.Repository, string, error) {
	return openRepositoryWith(ref, repositoryOptions())
}

// openTarget is openRepository for what is written to: "oci:DIR" is made where it is missing.
func openTarget(ref string) (*registry.Repository, string, error) {
	options := repositoryOptions()
	options.Create = true
	return openRepositoryWith(ref, options)
}

func openRepositoryWith(ref string, options registry.Options) (*registry.Repository, string, error) {
	name, plain := strings.CutPrefix(ref, "http://")
	options.PlainHTTP = plain
	return registry.Open(name, options)
}

// openRelease reads the release that a person names by its tag, or the only
// one of a place. It returns the tag too.
func openRelease(ctx context.Context, ref string) (*registry.Release, string, error) {
	repo, tag, err := openRepository(ref)
	if err != nil {
		return nil, "", err
	}
	return readRelease(ctx, repo, tag)
}

func readRelease(ctx context.Context, repo *registry.Repository, tag string) (*registry.Release, string, error) {
	tag, err := repo.SoleRelease(ctx, tag)
	var refused *registry.RefusedError
	if errors.As(err, &refused) {
		err = &codeError{exitUsage, err} // several releases, and none is named
	}
	if err != nil {
		return nil, "", err
	}
	rel, err := repo.ReadRelease(ctx, tag)
	return rel, tag, err
}

// machineCredentials are those of a machine's own services.
const machineCredentials = "/etc/ashlar/auth.json"

// credentialFiles lists where credentials may be, in the order of containers-auth.json(5).
func credentialFiles(getenv func(string) string) []string {
	if name := getenv("REGISTRY_AUTH_FILE"); name != "" {
		return []string{name}
	}
	var files []string
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		files = append(files, filepath.Join(dir, "containers/auth.json"))
	}
	home := getenv("HOME")
	if dir := getenv("XDG_CONFIG_HOME"); dir != "" {
		files = append(files, filepath.Join(dir, "containers/auth.json"))
	} else if home != "" {
		files = append(files, filepath.Join(home, ".config/containers/auth.json"))
	}
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		files = append(files, filepath.Join(dir, "config.json"))
	} else if home != "" {
		files = append(files, filepath.Join(home, ".docker/config.json"))
	}
	return append(files, machineCredentials)
}

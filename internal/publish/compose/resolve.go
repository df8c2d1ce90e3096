package compose

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/publish/recipe"
)

// debianKeys is the keyring used where a recipe names none.
const debianKeys = "/usr/share/keyrings/debian-archive-keyring.gpg"

// repositories lists where the packages of a recipe come from: the base
// first, then the extra ones, in the order in which a lock numbers them.
func repositories(r *recipe.Recipe) []recipe.Repository {
	b := &r.Base
	list := []recipe.Repository{{URI: b.Mirror, Suite: b.Suite, Components: b.Components, Keys: b.Keys}}
	list = append(list, b.Repositories...)
	for i := range list {
		if list[i].Keys == "" {
			list[i].Keys = b.Keys
		}
		if list[i].Keys == "" {
			list[i].Keys = debianKeys
		}
		list[i].URI = strings.TrimSuffix(list[i].URI, "/") + "/"
	}
	return list
}

// resolve asks apt, in a private directory and with an empty package
// database, which packages the recipe needs, and locks them.
func resolve(ctx context.Context, r *recipe.Recipe, dir string) (*recipe.Lock, error) {
	repos := repositories(r)
	config, err := prepareApt(r, repos, dir)
	if err != nil {
		return nil, fmt.Errorf("preparing apt: %w", err)
	}
	env := []string{"APT_CONFIG=" + config}
	if _, err := program.Run(ctx, program.Command{
		Args: []string{"apt-get", "-qq", "--error-on=any", "update"}, Env: env}); err != nil {
		return nil, fmt.Errorf("reading the package lists: %w", err)
	}
	args := []string{"apt-get", "-qq", "-y", "--print-uris", "install", "?essential"}
	out, err := program.Run(ctx, program.Command{Args: append(args, wanted(r)...), Env: env})
	if err != nil {
		return nil, fmt.Errorf("resolving the packages: %w", err)
	}
	l := &recipe.Lock{Architecture: r.Base.Architecture}
	for _, repo := range repos {
		l.Repositories = append(l.Repositories, recipe.LockRepository{URI: repo.URI, Suite: repo.Suite})
	}
	if l.Packages, err = parseURIs(out, repos); err != nil {
		return nil, fmt.Errorf("reading what apt resolved: %w", err)
	}
	return l, nil
}

// wanted lists the packages a recipe asks for by name.
func wanted(r *recipe.Recipe) []string {
	list := append([]string(nil), r.Base.Packages...)
	if r.Kernel.Package != "" {
		list = append(list, r.Kernel.Package)
	}
	if hasKernel(list) {
		list = append(list, standInName)
	}
	return list
}

// prepareApt lays out a directory in which apt sees nothing of this machine
// but its proxies, and gives the path of its configuration.
func prepareApt(r *recipe.Recipe, repos []recipe.Repository, dir string) (string, error) {
	for _, d := range []string{"lists/partial", "archives/partial", "etc/apt.conf.d", "etc/preferences.d", "stand-in"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return "", err
		}
	}
	var sources strings.Builder
	for i, repo := range repos {
		key := filepath.Join(dir, fmt.Sprintf("keys-%d%s", i, keyExtension(repo.Keys)))
		data, err := os.ReadFile(repo.Keys)
		if err != nil {
			return "", fmt.Errorf("the keys of %s: %w", repo.URI, err)
		}
		if err := os.WriteFile(key, data, 0o644); err != nil {
			return "", err
		}
		options := "signed-by=" + key
		if i == 0 && r.Base.Snapshot != "" {
			options += " check-valid-until=no"
		}
		fmt.Fprintf(&sources, "deb [%s] %s %s %s\n", options, repo.URI, repo.Suite, strings.Join(repo.Components, " "))
	}
	if hasKernel(append([]string{r.Kernel.Package}, r.Base.Packages...)) {
		standIn, err := writeStandIn(filepath.Join(dir, "stand-in"))
		if err != nil {
			return "", err
		}
		if err := writeIndex(filepath.Join(dir, "stand-in"), []indexed{standIn}); err != nil {
			return "", err
		}
		fmt.Fprintf(&sources, "deb [trusted=yes] copy:%s/stand-in ./\n", dir)
	}
	recommends := "false"
	if r.Base.Recommends != nil && *r.Base.Recommends {
		recommends = "true"
	}
	config := fmt.Sprintf(`Dir "%[1]s";
Dir::State "%[1]s";
Dir::State::lists "%[1]s/lists";
Dir::State::status "%[1]s/status";
Dir::Cache "%[1]s";
Dir::Cache::archives "%[1]s/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc "%[1]s/etc";
Dir::Etc::sourcelist "%[1]s/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
Dir::Log "%[1]s";
APT::Architecture "%[2]s";
APT::Architectures { "%[2]s"; };
APT::Install-Recommends "%[3]s";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
Acquire::Retries "3";
pkgCacheGen::ForceEssential ",";
`, dir, r.Base.Architecture, recommends)
	for name, text := range map[string]string{"sources.list": sources.String(), "apt.conf": config, "status": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "apt.conf"), nil
}

// keyExtension tells apt whether a keyring is armoured.
func keyExtension(path string) string {
	if filepath.Ext(path) == ".asc" {
		return ".asc"
	}
	return ".gpg"
}

// parseURIs reads the lines of apt-get --print-uris, one package file each:
//
//	'http://host/debian/pool/…/a_1.0_amd64.deb' a_1%3a1.0_amd64.deb 1234 SHA256:…
func parseURIs(out []byte, repos []recipe.Repository) ([]recipe.LockPackage, error) {
	var list []recipe.LockPackage
	for scan := bufio.NewScanner(bytes.NewReader(out)); scan.Scan(); {
		f := strings.Fields(scan.Text())
		if len(f) != 4 || !strings.HasPrefix(f[0], "'") {
			return nil, fmt.Errorf("unexpected line %q", scan.Text())
		}
		uri := strings.Trim(f[0], "'")
		if strings.HasPrefix(f[1], standInName+"_") {
			continue // made anew in every build, see standin.go
		}
		var p recipe.LockPackage
		if p.Repository = longestPrefix(uri, repos); p.Repository < 0 {
			return nil, fmt.Errorf("%q is in no repository of the recipe", uri)
		}
		p.Filename = strings.TrimPrefix(uri, repos[p.Repository].URI)
		parts := strings.Split(strings.TrimSuffix(f[1], ".deb"), "_")
		if len(parts) != 3 {
			return nil, fmt.Errorf("%q is not name_version_architecture.deb", f[1])
		}
		version, err := url.PathUnescape(parts[1])
		if err != nil {
			return nil, fmt.Errorf("%q: %w", f[1], err)
		}
		p.Name, p.Version, p.Architecture = parts[0], version, parts[2]
		if p.Size, err = strconv.ParseInt(f[2], 10, 64); err != nil {
			return nil, fmt.Errorf("size of %q: %w", f[1], err)
		}
		sum, ok := strings.CutPrefix(f[3], "SHA256:")
		if !ok {
			return nil, fmt.Errorf("%q has no SHA256 in its repository", f[1])
		}
		p.SHA256 = sum
		list = append(list, p)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no package at all")
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, nil
}

func longestPrefix(uri string, repos []recipe.Repository) int {
	best := -1
	for i, r := range repos {
		if strings.HasPrefix(uri, r.URI) && (best < 0 || len(r.URI) > len(repos[best].URI)) {
			best = i
		}
	}
	return best
}

package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// debian makes the tree of base "debian" from the locked packages: fetches
// what the cache lacks, and lets mmdebstrap install exactly those.
func (b *builder) debian(ctx context.Context) (*tree.Tree, error) {
	c, err := openCache(b.o.CacheDir)
	if err != nil {
		return nil, err
	}
	if err := c.fetch(ctx, b.lock, b.places(), b.report); err != nil {
		return nil, err
	}
	repo := filepath.Join(b.scratch, "repository")
	if err := writeRepository(repo, c, b.lock); err != nil {
		return nil, fmt.Errorf("laying out the packages for mmdebstrap: %w", err)
	}
	essential, err := b.writeAccountsHook()
	if err != nil {
		return nil, err
	}
	customize, err := b.writeFinishHook()
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(b.lock.Packages)+1)
	for _, p := range b.lock.Packages {
		names = append(names, p.Name)
	}
	if hasKernel(names) {
		names = append(names, standInName)
	}
	return b.readProgram(ctx, "installing packages", inNamespace(
		"mmdebstrap", "--mode=root", "--variant=essential", "--format=tar", "--quiet",
		"--architectures="+b.lock.Architecture,
		"--include="+strings.Join(names, ","),
		"--essential-hook="+essential, "--customize-hook="+customize,
		"", "-", "deb [trusted=yes] copy:"+repo+" ./"))
}

// places lists for each repository of the lock where to look for its files:
// where the recipe says it is now, then where the lock found it.
func (b *builder) places() [][]string {
	var uris [][]string
	now := repositories(b.o.Recipe)
	for i, locked := range b.lock.Repositories {
		var list []string
		if i < len(now) {
			list = append(list, now[i].URI)
		}
		if u := strings.TrimSuffix(locked.URI, "/") + "/"; len(list) == 0 || list[0] != u {
			list = append(list, u)
		}
		uris = append(uris, list)
	}
	return uris
}

// readProgram runs a program that writes a tar stream and reads the tree from it.
func (b *builder) readProgram(ctx context.Context, stage string, args []string) (*tree.Tree, error) {
	b.report.Stage(stage, 0, progress.Items)
	tmp := filepath.Join(b.scratch, "tmp") // mmdebstrap installs into it
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return nil, err
	}
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := program.Run(ctx, program.Command{
			Args: args, Stdout: pw, Dir: "/",
			Env: []string{
				fmt.Sprintf("SOURCE_DATE_EPOCH=%d", b.lock.Epoch), "TMPDIR=" + tmp, "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
			},
		})
		pw.CloseWithError(err)
		done <- err
	}()
	t, err := readTar(ctx, pr, b.spool, b.report)
	if err == nil {
		_, err = io.Copy(io.Discard, pr) // what tar writes after the end of the archive
	}
	pr.CloseWithError(errors.New("no longer read"))
	// Why the program failed explains a cut stream, not the other way round.
	if runErr := <-done; runErr != nil {
		return nil, fmt.Errorf("%s: %w", stage, runErr)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", stage, err)
	}
	return t, nil
}

// writeScript writes an executable into the scratch directory.
func (b *builder) writeScript(name, text string) (string, error) {
	path := filepath.Join(b.scratch, name)
	return path, os.WriteFile(path, []byte(text), 0o755)
}

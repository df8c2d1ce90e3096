package main

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"os"

	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// keysOf is where the bench's publisher keeps its keys, beside a layout. Machines
// are given its root as "ashlar switch --root" would.
func keysOf(layout string) string { return layout + ".keys" }

// runSign signs a version that is in a layout, and moves the channel to it. It is not
// part of what is compared: ostree signs nothing here, and the passphrases are slow
// to open on purpose.
func runSign(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("sign", flag.ContinueOnError)
	layout := flags.String("layout", "", "layout with the release")
	version := flags.String("version", "", "of the release")
	if err := flags.Parse(args); err != nil {
		return err
	}
	keys, err := openKeys(ctx, keysOf(*layout))
	if err != nil {
		return err
	}
	repo, _, err := registry.Open("oci:"+*layout, registry.Options{})
	if err != nil {
		return err
	}
	rel, err := repo.ReadRelease(ctx, *version)
	if err != nil {
		return err
	}
	var src trust.Source
	before, err := repo.ReadTrust(ctx)
	switch {
	case err == nil:
		src = before
	case !errors.Is(err, registry.ErrNoTrust):
		return err
	}
	editor, err := trust.Open(ctx, keys, src, trust.EditorOptions{
		Repository: *layout, Image: trust.Target{Name: rel.Document.Name, Architecture: rel.Document.Architecture},
	})
	if err != nil {
		return err
	}
	if err := editor.AddRelease(rel.DocumentBytes, rel.Manifest.Digest); err != nil {
		return err
	}
	if err := editor.SetChannel(channel, *version); err != nil {
		return err
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

// openKeys opens the bench's keys, or makes them.
func openKeys(ctx context.Context, dir string) (*trust.Keyring, error) {
	passphrase := func(trust.Ask) ([]byte, error) { return []byte("bench"), nil }
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return trust.Init(ctx, dir, trust.InitOptions{Holders: 1, Threshold: 1, Passphrase: passphrase})
	}
	return trust.OpenKeyring(dir, passphrase)
}

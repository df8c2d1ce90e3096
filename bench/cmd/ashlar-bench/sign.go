package main

import (
	"context"
	"errors"
	"flag"
	"slices"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// keysOf is where the bench's publisher keeps its keys, beside a layout.
func keysOf(layout string) string { return layout + ".keys" }

// rootOf is what a machine believes that layout by, as with "ashlar switch --root".
func rootOf(layout string) string { return keysOf(layout) + "/root.json" }

// runSign signs every release of a layout, with keys of its own, and lets the
// channel name the newest. It is not part of what is compared: ostree signs
// nothing here, and the passphrases are slow to open on purpose. They also take
// memory, which is why this has a process of its own: what a process starts is
// charged with the memory that its parent had.
func runSign(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("sign", flag.ContinueOnError)
	layout := flags.String("layout", "", "layout to sign, where it is not signed yet")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return signLayout(ctx, *layout)
}

func signLayout(ctx context.Context, dir string) error {
	layout, err := registry.OpenLayout(dir)
	if err != nil {
		return err
	}
	repo := layout.Repository()
	if _, err := repo.ReadTrust(ctx); !errors.Is(err, registry.ErrNoTrust) {
		return err // it is signed, unless it cannot be read
	}
	keys, err := trust.Init(ctx, keysOf(dir), trust.InitOptions{
		Holders: 1, Threshold: 1, Passphrase: func(trust.Ask) ([]byte, error) { return []byte("bench"), nil },
	})
	if err != nil {
		return err
	}
	editor, err := trust.Open(ctx, keys, nil, trust.EditorOptions{Repository: dir})
	if err != nil {
		return err
	}
	tags, err := repo.Tags(ctx)
	if err != nil {
		return err
	}
	var versions []string
	for _, tag := range tags {
		if tag == channel {
			continue
		}
		rel, err := repo.ReadRelease(ctx, tag)
		if err != nil {
			return err
		}
		if err := editor.AddRelease(rel.DocumentBytes, rel.Manifest.Digest); err != nil {
			return err
		}
		versions = append(versions, rel.Document.Version)
	}
	if err := editor.SetChannel(channel, slices.MaxFunc(versions, release.CompareVersions)); err != nil {
		return err
	}
	files, err := editor.Sign(ctx)
	if err != nil {
		return err
	}
	return repo.WriteTrust(ctx, files, nil)
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/publish/compose"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// provenAnswer is what `ashlar inspect --signed --json` prints: all of it follows
// from the root that was named.
type provenAnswer struct {
	Schema       int               `json:"schema"` // 1
	Repository   string            `json:"repository"`
	Channel      string            `json:"channel,omitempty"`
	Root         anchor            `json:"root"`     // what is believed
	Keys         []string          `json:"keys"`     // ids of the targets keys that signed
	Until        time.Time         `json:"until"`    // when the first of the signatures expires
	Release      digest.Digest     `json:"release"`  // of the document
	Artifact     digest.Digest     `json:"artifact"` // of the release artifact's manifest
	Withdrawn    *trust.Withdrawal `json:"withdrawn,omitempty"`
	Document     *release.Document `json:"document"`
	PackageCount int               `json:"package_count"`
	Packages     []packageAnswer   `json:"packages"`
}

// runInspectSigned shows what is in the signed release alone: the document, and
// the lists that it binds. Tags are not believed.
func runInspectSigned(ctx context.Context, o inspectOptions, g *globals) error {
	repo, name, err := openRepository(o.release)
	if err != nil {
		return err
	}
	source, err := repo.ReadTrust(ctx)
	if err != nil {
		return answered(ctx, err)
	}
	from, view, err := lookAt(ctx, source, o.root)
	if err == nil && !from.proven() {
		return errWhose()
	}
	if err == nil {
		err = view.Stale()
	}
	if err != nil {
		return fmt.Errorf("cannot trust %s: %w", repo.Name, err)
	}
	signed, channel, err := signedRelease(view, name)
	if err != nil {
		return err
	}
	rel, err := repo.ReadReleaseArtifact(ctx, signed.Artifact.String())
	if err != nil {
		return answered(ctx, err)
	}
	if rel.DocumentDigest != signed.DocumentDigest.String() || int64(len(rel.DocumentBytes)) != signed.Length {
		return &lie{fmt.Errorf("the document of %s is %s, and the one that is signed is %s", signed.Version, rel.DocumentDigest, signed.DocumentDigest)}
	}
	a := provenAnswer{
		Schema: 1, Repository: repo.Name, Channel: channel, Root: from, Keys: view.Signers(trust.RoleTargets),
		Release: signed.DocumentDigest, Artifact: signed.Artifact, Withdrawn: signed.Withdrawn, Document: rel.Document,
	}
	_, a.Until = firstToExpire(view)
	packages, err := signedPackages(ctx, rel)
	if err != nil {
		return err
	}
	a.PackageCount, a.Packages = len(packages), packages
	if g.json {
		return g.printJSON(a)
	}
	return a.print(g, o.packages)
}

// errWhose is for those who name no root, where the computer has none.
func errWhose() error {
	return &codeError{exitUsage, &hintError{
		errors.New("whose signatures? This machine's image knows no keys"),
		"--root FILE names the publisher's root.json, which must have come to you by a way that you trust",
	}}
}

// signedRelease finds what a person names: a channel, a version, or nothing, which
// is "stable" where that is there and else the newest release.
func signedRelease(view *trust.View, name string) (r trust.Release, channel string, err error) {
	images := view.Images()
	if len(images) != 1 {
		return r, "", fmt.Errorf("the repository publishes %d images, and only one can be shown", len(images))
	}
	of, err := view.Of(images[0])
	if err != nil {
		return r, "", err
	}
	switch {
	case name != "" && '0' <= name[0] && name[0] <= '9': // as a version's tag begins
		r, err = of.Release(strings.ReplaceAll(name, "_", "~"))
	case name != "":
		channel = name
		r, err = of.Channel(name)
	default:
		channel = "stable"
		if r, err = of.Channel(channel); errors.Is(err, trust.ErrUnknown) {
			r, channel, err = of.Releases()[0], "", nil // there is one, or there was no image
		}
	}
	return r, channel, err
}

// signedPackages reads the software list, whose digest the document has.
func signedPackages(ctx context.Context, rel *registry.Release) ([]packageAnswer, error) {
	list, err := readAll(ctx, rel.OpenSBOM)
	if err != nil {
		return nil, fmt.Errorf("reading the software list of %s: %w", rel.Document.ID, answered(ctx, err))
	}
	packages, err := compose.ReadSBOM(list)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rel.Document.ID, err)
	}
	return describePackages(packages), nil
}

func (a provenAnswer) print(g *globals, packages bool) error {
	t := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	if packages {
		for _, p := range a.Packages {
			fmt.Fprintf(t, "%s\t%s\t%s\n", printable(p.Name), printable(p.Version), printable(p.Architecture))
		}
		return t.Flush()
	}
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	doc := a.Document
	row("release", "%s %s for %s, %s", doc.Name, doc.Version, doc.Architecture, doc.Created)
	if a.Channel != "" {
		row("channel", "%s", a.Channel)
	}
	if w := a.Withdrawn; w != nil {
		row("WITHDRAWN", "%s: %s", w.At.Format(time.DateOnly), w.Reason)
	}
	keys := make([]string, len(a.Keys))
	for i, id := range a.Keys {
		keys[i] = fmt.Sprintf("%.12s", id)
	}
	row("signed", "by the targets key %s, until %s; believed because of %s", strings.Join(keys, ", "), a.Until.Format(time.DateOnly), a.Root.Path)
	row("document", "%s", a.Release)
	row("image", "%s, %s", doc.Root().Digest, formatBytes(doc.Root().Size))
	row("lock", "sha256:%s, %s", doc.Lock.SHA256, formatBytes(doc.Lock.Size))
	row("builder", "%s, rule-set %d", doc.Builder, doc.RuleSet)
	row("packages", "%d, in the software list sha256:%s", a.PackageCount, doc.SBOM.SHA256)
	return t.Flush()
}

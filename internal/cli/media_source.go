package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/machine/install"
	"github.com/ashlar-os/ashlar/internal/media"
	"github.com/ashlar-os/ashlar/internal/media/drive"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// vouch is who vouches for a medium, in the answers of write and verify.
type vouch struct {
	Root    anchor        `json:"root"`            // what is believed
	Keys    []string      `json:"keys"`            // ids of the targets keys that signed
	Until   time.Time     `json:"until"`           // when the first of the signatures of people expires
	Stale   string        `json:"stale,omitempty"` // timestamp or snapshot have expired: a sentence
	Release digest.Digest `json:"release"`         // of the document
}

// String is what a person is told.
func (v vouch) String() string {
	keys := make([]string, len(v.Keys))
	for i, id := range v.Keys {
		keys[i] = fmt.Sprintf("%.12s", id)
	}
	return fmt.Sprintf("by the targets key %s, until %s; believed because of %s", strings.Join(keys, ", "), v.Until.Format(time.DateOnly), v.Root.Path)
}

func describeBelief(from anchor, view *trust.View, signed trust.Release) vouch {
	v := vouch{Root: from, Keys: view.Signers(trust.RoleTargets), Release: signed.DocumentDigest}
	for role, at := range view.Expires() {
		if role != trust.RoleTimestamp && role != trust.RoleSnapshot && (v.Until.IsZero() || at.Before(v.Until)) {
			v.Until = at
		}
	}
	if err := view.Stale(); err != nil {
		v.Stale = err.Error()
	}
	return v
}

// openMediaSource believes what a person wants to write: an image or a drive that is
// a medium already, or a signed release. It fetches no blocks yet.
func openMediaSource(ctx context.Context, name string, o rootOptions) (*media.Source, vouch, error) {
	if isImage(name) {
		return imageSource(ctx, name, o)
	}
	return releaseSource(ctx, name, o)
}

// isImage tells a file or a drive from the name of a repository, and from a directory.
func isImage(name string) bool {
	st, err := os.Stat(mediaPath(name))
	return err == nil && !st.IsDir()
}

// mediaPath is where a drive or a file is that a person names: drives are on the
// computer that ASHLAR_ROOT may make up.
func mediaPath(name string) string {
	if strings.HasPrefix(name, "/dev/") {
		return machineRoot() + name
	}
	return name
}

func imageSource(ctx context.Context, name string, o rootOptions) (*media.Source, vouch, error) {
	m, from, belief, err := openMedium(ctx, name, o)
	if err != nil {
		return nil, vouch{}, err
	}
	if w := belief.Release.Withdrawn; w != nil {
		m.Close()
		return nil, vouch{}, errWithdrawn(m.Document.ID, w)
	}
	s := m.Source()
	s.Close = m.Close
	return s, describeBelief(from, belief.View, belief.Release), nil
}

// openMedium opens a medium, and believes its papers.
func openMedium(ctx context.Context, name string, o rootOptions) (m *media.Medium, from anchor, belief *media.Belief, err error) {
	dev, err := drive.OpenToRead(mediaPath(name))
	if err != nil {
		return nil, from, nil, err
	}
	defer func() {
		if err != nil {
			dev.Close()
		}
	}()
	if m, err = media.OpenMedium(name, dev); err != nil {
		return nil, from, nil, err
	}
	if from, err = o.find(ctx, trust.Files(m.Papers.Trust)); err != nil {
		return nil, from, nil, err
	}
	if !from.proven() {
		return nil, from, nil, errWhose()
	}
	belief, err = m.Believe(ctx, from.data)
	if errors.Is(err, trust.ErrUntrusted) && from.From == anchorImage {
		err = &hintError{err, fmt.Sprintf("it was compared with the keys of this machine, %q; --root FILE names others", from.Path)}
	}
	return m, from, belief, err
}

func releaseSource(ctx context.Context, name string, o rootOptions) (*media.Source, vouch, error) {
	repo, tag, err := openRepository(name)
	if err != nil {
		return nil, vouch{}, err
	}
	source, err := repo.ReadTrust(ctx)
	if err != nil {
		return nil, vouch{}, answered(ctx, err)
	}
	from, view, err := lookAt(ctx, source, o)
	if err == nil && !from.proven() {
		return nil, vouch{}, errWhose()
	}
	if err == nil {
		err = view.Stale()
	}
	if err != nil {
		return nil, vouch{}, fmt.Errorf("cannot trust %s: %w", repo.Name, err)
	}
	signed, _, err := signedRelease(view, tag)
	if err != nil {
		return nil, vouch{}, err
	}
	rel, err := repo.ReadReleaseArtifact(ctx, signed.Artifact.String())
	if err != nil {
		return nil, vouch{}, answered(ctx, err)
	}
	if rel.DocumentDigest != signed.DocumentDigest.String() || int64(len(rel.DocumentBytes)) != signed.Length {
		return nil, vouch{}, &lie{fmt.Errorf("the document of %s is %s, and the one that is signed is %s", signed.Version, rel.DocumentDigest, signed.DocumentDigest)}
	}
	if w := signed.Withdrawn; w != nil {
		return nil, vouch{}, errWithdrawn(rel.Document.ID, w)
	}
	papers, err := collectPapers(ctx, source, view)
	if err != nil {
		return nil, vouch{}, err
	}
	s, err := media.FromRelease(ctx, rel, papers)
	if err != nil {
		return nil, vouch{}, answered(ctx, err)
	}
	return s, describeBelief(from, view, signed), nil
}

func errWithdrawn(id string, w *trust.Withdrawal) error {
	return fmt.Errorf("%s was withdrawn by its publisher on %s: %s", id, w.At.Format(time.DateOnly), w.Reason)
}

// collectPapers reads the metadata that a medium brings: every root, because an older
// image begins with an older one, and the newest of the rest.
func collectPapers(ctx context.Context, source trust.Source, view *trust.View) (map[string][]byte, error) {
	files := map[string][]byte{}
	want := map[string]bool{}
	for _, s := range view.Signed() {
		want[trust.FileName(s.Role, s.Version)] = true
	}
	for _, name := range source.Names() {
		if !want[name] && !strings.HasSuffix(name, ".root.json") {
			continue
		}
		data, err := source.File(ctx, name, maxPaper)
		if err != nil {
			return nil, answered(ctx, err)
		}
		files[name] = data
	}
	return files, nil
}

// maxPaper limits one file of the papers; all of them together have a limit too.
const maxPaper = 4 << 20

// readMediaAnswers reads the answers of an unattended installation, and sees that the
// installer would take them.
func readMediaAnswers(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	text, err := limited.File(path, install.MaxAnswers)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &codeError{exitUsage, err}
	}
	if err != nil {
		return nil, err
	}
	_, err = install.ReadAnswers(path, text)
	return text, err
}

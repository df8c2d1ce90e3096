package trust

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/opencontainers/go-digest"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// EditorOptions are the choices of [Open].
type EditorOptions struct {
	// Repository names the place for the publisher's memory of it. What was
	// seen there once cannot be shown older later.
	Repository string
	// Image is what to work on; zero is the only one that is published there.
	Image  Target
	Expiry Expiry           // zero fields: DefaultExpiry
	Now    func() time.Time // nil: time.Now
}

// Editor changes what a repository says. It changes nothing anywhere by itself:
// Sign returns files, and whoever uploads them calls Published.
type Editor struct {
	keys   *Keyring
	opts   EditorOptions
	image  Target
	before *View // as the repository is; nil when it is new

	root     *rootFile // to sign under: the keyring's newest
	targets  *targetsFile
	channels *targetsFile
	renew    map[string]bool // roles to sign again although nothing in them changed
	merged   map[string]bool // roles that were signed elsewhere
	signed   Files
}

// Open reads a repository to change it. What is there is verified as a machine
// would, but for expiry, because renewing is what an editor is for; what this
// keyring saw there before cannot be shown older. A nil source is a new
// repository.
func Open(ctx context.Context, keys *Keyring, src Source, opts EditorOptions) (*Editor, error) {
	if opts.Repository == "" {
		return nil, errors.New("the repository has no name")
	}
	e := &Editor{keys: keys, opts: opts, image: opts.Image, root: keys.root, renew: map[string]bool{}, merged: map[string]bool{}}
	client := e.client()
	if src == nil {
		if _, err := client.Accepted(); !errors.Is(err, ErrNothingAccepted) {
			return nil, rollback("the repository %q holds no signed metadata, and it did before: somebody shows it the past", opts.Repository)
		}
		return e, e.begin()
	}
	view, err := client.refresh(ctx, src, timeless)
	if err != nil {
		return nil, err
	}
	e.before = view
	if err := e.learnRoots(view); err != nil {
		return nil, err
	}
	if e.image == (Target{}) {
		if images := view.images(); len(images) == 1 {
			e.image = images[0]
		}
	}
	// Copies: the view stays what the repository says.
	if e.targets, err = decodeTargets(view.file(RoleTargets)); err != nil {
		return nil, err
	}
	e.channels, err = decodeChannels(view.file(RoleChannels))
	return e, err
}

func (e *Editor) client() *Client {
	return &Client{
		Dir:  filepath.Join(e.keys.dir, acceptedDir, url.PathEscape(e.opts.Repository)),
		Root: e.keys.oldestRoot(), Now: e.opts.Now,
	}
}

// file returns the bytes of a role's file.
func (v *View) file(role string) []byte {
	for _, s := range v.Signed() {
		if s.Role == role {
			return v.files[FileName(role, s.Version)]
		}
	}
	return nil
}

// learnRoots compares the repository's roots with the keyring's, and takes newer
// ones: another publisher's keyring made them, and the holders signed them.
func (e *Editor) learnRoots(view *View) error {
	for v := int64(1); v <= view.root.Signed.Version; v++ {
		data, ok := view.files[FileName(RoleRoot, v)]
		if !ok {
			continue
		}
		mine, ok := e.keys.roots[v]
		switch {
		case ok && string(mine) != string(data):
			return untrusted("root %d of the repository %q is another one than in %q", v, e.opts.Repository, e.keys.dir)
		case !ok && v > e.keys.root.Signed.Version:
			root, err := decodeRoot(data)
			if err != nil {
				return err
			}
			if err := e.keys.addRoot(root, data); err != nil {
				return err
			}
		}
	}
	e.root = e.keys.root
	return nil
}

// begin makes the first targets and channels: empty ones.
func (e *Editor) begin() error {
	id, err := e.keys.newest(RoleChannels)
	if err != nil {
		return err
	}
	key, err := e.keys.public(id)
	if err != nil {
		return err
	}
	e.targets, e.channels = metadata.Targets(), metadata.Targets()
	e.targets.Signed.Version, e.channels.Signed.Version = 0, 0 // none yet
	e.targets.Signed.Delegations = &metadata.Delegations{
		Keys: map[string]*metadata.Key{id: key},
		Roles: []metadata.DelegatedRole{{
			Name: RoleChannels, KeyIDs: []string{id}, Threshold: 1, Terminating: true, Paths: channelPaths(),
		}},
	}
	return nil
}

// Image returns what the editor works on; zero before the first release.
func (e *Editor) Image() Target { return e.image }

// View returns the repository as it was when it was opened; nil for a new one.
func (e *Editor) View() *View { return e.before }

// content reads what the editor would sign.
func (e *Editor) content() (content, error) { return readContent(e.targets, e.channels) }

// AddRelease signs a release: its document, in the canonical form, and the
// digest of its artifact's manifest in the repository. The same one again is
// fine; another document for a version that was signed is not.
func (e *Editor) AddRelease(document []byte, artifact digest.Digest) error {
	doc, err := release.Decode(document)
	if err != nil {
		return err
	}
	if err := artifact.Validate(); err != nil || artifact.Algorithm() != digest.SHA256 {
		return fmt.Errorf("the artifact's digest %.80q is not a sha256", artifact)
	}
	c, err := e.content()
	if err != nil {
		return err
	}
	image := Target{doc.Name, doc.Architecture}
	for _, other := range c.images() {
		if other.Name != image.Name {
			return fmt.Errorf("the repository %q publishes %s, and %s needs one of its own", e.opts.Repository, other, image)
		}
	}
	p := targetPath{kindRelease, image, doc.Version}
	sum := digest.FromBytes(document)
	if there, ok := c.releases[p]; ok && there.DocumentDigest != sum {
		return fmt.Errorf("release %s of %s is signed already, with another document: give the new one another version", doc.Version, image)
	}
	e.image = image
	return put(e.targets, p, Release{DocumentDigest: sum, Length: int64(len(document))}, customRelease{Artifact: artifact})
}

// RemoveRelease takes a release out of what is signed, as after the theft of a
// targets key. Machines that run it go on; nobody can install it any more. No
// channel may name it.
func (e *Editor) RemoveRelease(version string) error {
	r, c, err := e.release(version)
	if err != nil {
		return err
	}
	for p, v := range c.channels {
		if p.image == e.image && v == r.Version {
			return fmt.Errorf("channel %q names release %s: let it name another one first", p.last, version)
		}
	}
	delete(e.targets.Signed.Targets, targetPath{kindRelease, e.image, version}.String())
	delete(e.channels.Signed.Targets, targetPath{kindWithdrawn, e.image, version}.String())
	return nil
}

// SetChannel lets a channel name a release. A withdrawn one is refused.
func (e *Editor) SetChannel(channel, version string) error {
	if err := release.CheckChannel(channel); err != nil {
		return err
	}
	r, _, err := e.release(version)
	if err != nil {
		return err
	}
	if r.Withdrawn != nil {
		return fmt.Errorf("release %s was withdrawn (%s), so no channel can name it", version, r.Withdrawn.Reason)
	}
	return put(e.channels, targetPath{kindChannel, e.image, channel}, r, customChannel{Version: version})
}

// RemoveChannel takes a channel away.
func (e *Editor) RemoveChannel(channel string) error {
	name := targetPath{kindChannel, e.image, channel}.String()
	if _, ok := e.channels.Signed.Targets[name]; !ok {
		return unknown("the repository %q has no channel %q of %s", e.opts.Repository, channel, e.image)
	}
	delete(e.channels.Signed.Targets, name)
	return nil
}

// Withdraw says that nobody should take a release any more, and why. Channels
// that name it stay as they are: machines see both.
func (e *Editor) Withdraw(version, reason string) error {
	r, _, err := e.release(version)
	if err != nil {
		return err
	}
	w := &Withdrawal{Reason: reason, At: clockOr(e.opts.Now)}
	if err := w.check(); err != nil {
		return err
	}
	return put(e.channels, targetPath{kindWithdrawn, e.image, version}, r, w)
}

// Reinstate takes a withdrawal back.
func (e *Editor) Reinstate(version string) error {
	r, _, err := e.release(version)
	if err != nil {
		return err
	}
	if r.Withdrawn == nil {
		return fmt.Errorf("release %s of %s is not withdrawn", version, e.image)
	}
	delete(e.channels.Signed.Targets, targetPath{kindWithdrawn, e.image, version}.String())
	return nil
}

// Renew signs the files of these roles again, although nothing in them changed,
// because their time is running out. Snapshot and timestamp always are.
func (e *Editor) Renew(roles ...string) error {
	for _, role := range roles {
		if !slices.Contains([]string{RoleTargets, RoleChannels, RoleSnapshot, RoleTimestamp}, role) {
			return fmt.Errorf("the file of the role %q cannot be renewed in a repository", role)
		}
		e.renew[role] = true
	}
	return nil
}

// Channel returns the release that a channel would name.
func (e *Editor) Channel(channel string) (Release, error) {
	c, err := e.content()
	if err != nil {
		return Release{}, err
	}
	version, ok := c.channels[targetPath{kindChannel, e.image, channel}]
	if !ok {
		return Release{}, unknown("the repository %q has no channel %q of %s", e.opts.Repository, channel, e.image)
	}
	return c.releases[targetPath{kindRelease, e.image, version}], nil
}

func (e *Editor) release(version string) (Release, content, error) {
	c, err := e.content()
	if err != nil {
		return Release{}, c, err
	}
	if e.image == (Target{}) {
		return Release{}, c, fmt.Errorf("the repository %q publishes %d images: say which one is meant", e.opts.Repository, len(c.images()))
	}
	r, ok := c.releases[targetPath{kindRelease, e.image, version}]
	if !ok {
		return r, c, unknown("no release %.80q of %s is signed in the repository %q", version, e.image, e.opts.Repository)
	}
	return r, c, nil
}

// put writes one target.
func put(file *targetsFile, p targetPath, r Release, custom any) error {
	raw, err := json.Marshal(custom)
	if err != nil {
		return err
	}
	sum, err := hexBytes(r.DocumentDigest)
	if err != nil {
		return err
	}
	message := json.RawMessage(raw)
	file.Signed.Targets[p.String()] = &metadata.TargetFiles{
		Length: r.Length, Hashes: metadata.Hashes{"sha256": sum}, Custom: &message, Path: p.String(),
	}
	return nil
}

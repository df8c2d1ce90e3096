package trust

import (
	"crypto/ed25519"
	"encoding/hex"
	"slices"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/opencontainers/go-digest"
	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// View is a verified state of a repository.
type View struct {
	// Unchanged: it is what was accepted before.
	Unchanged bool
	// Damage says what was wrong with what had been accepted before, if
	// anything: then this was accepted without comparing it with that.
	Damage error

	image    Target
	now      time.Time
	root     *rootFile
	rootData []byte
	stamp    *timestampFile
	snapshot *snapshotFile
	targets  *targetsFile
	channels *targetsFile
	files    Files
	content
}

// Release is a release that the publisher signed.
type Release struct {
	Version        string        `json:"version"`
	DocumentDigest digest.Digest `json:"document"` // sha256 of the release document
	Length         int64         `json:"length"`   // bytes of the release document
	Artifact       digest.Digest `json:"artifact"` // the release artifact's manifest, in the same OCI repository
	Withdrawn      *Withdrawal   `json:"withdrawn,omitempty"`
}

// Withdrawal says why nobody should take a release any more.
type Withdrawal struct {
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// newView checks what the files of a finished walk say. With an empty target
// they may be about any image: publishers look so.
func newView(w *walk, image Target) (*View, error) {
	v := &View{
		image: image, now: w.now, files: w.files,
		root: w.tuf.Root, rootData: w.rootData, stamp: w.tuf.Timestamp, snapshot: w.tuf.Snapshot,
		targets: w.tuf.Targets[RoleTargets], channels: w.tuf.Targets[RoleChannels],
	}
	c, err := readContent(v.targets, v.channels)
	if err != nil {
		return nil, err
	}
	v.content = c
	if image == (Target{}) {
		return v, nil
	}
	return v, c.mustPublish(image)
}

// Image returns what the view was made for.
func (v *View) Image() Target { return v.image }

// Releases returns every signed release of the image, the newest first.
func (v *View) Releases() []Release { return v.of(v.image) }

// Channels returns the version that each channel names.
func (v *View) Channels() map[string]string {
	channels := map[string]string{}
	for p, version := range v.content.channels {
		if p.image == v.image {
			channels[p.last] = version
		}
	}
	return channels
}

// Channel returns the release that a channel names, which may be withdrawn.
// Without such a channel the error is [ErrUnknown].
func (v *View) Channel(channel string) (Release, error) {
	if version, ok := v.content.channels[targetPath{kindChannel, v.image, channel}]; ok {
		return v.Release(version)
	}
	return Release{}, unknown("this repository has no channel %q of %s", channel, v.image)
}

// Release returns the release of a version, or [ErrUnknown].
func (v *View) Release(version string) (Release, error) {
	if r, ok := v.content.releases[targetPath{kindRelease, v.image, version}]; ok {
		return r, nil
	}
	return Release{}, unknown("no release %s of %s is signed in this repository", version, v.image)
}

// Withdrawn returns why a version was withdrawn, or nil.
func (v *View) Withdrawn(version string) *Withdrawal {
	return v.content.releases[targetPath{kindRelease, v.image, version}].Withdrawn
}

// Vouches returns the signed release that has this document, or [ErrUnknown].
// What a machine got from anywhere else is judged by this.
func (v *View) Vouches(document digest.Digest) (Release, error) {
	for _, r := range v.Releases() {
		if r.DocumentDigest == document {
			return r, nil
		}
	}
	return Release{}, unknown("no release of %s with the document %s is signed in this repository", v.image, document)
}

// Signed says who signed the file of a role, and until when it is good.
type Signed struct {
	Role      string    `json:"role"`
	Version   int64     `json:"version"` // of the file
	Expires   time.Time `json:"expires"`
	Threshold int       `json:"threshold"` // signatures that are needed
	Keys      []string  `json:"keys"`      // ids of the keys that may sign
	Signers   []string  `json:"signers"`   // ids of those that did
}

// Signed describes every role, in the order of [Roles].
func (v *View) Signed() []Signed {
	var all []Signed
	add := func(role string, version int64, expires time.Time, ids, by []string, threshold int) {
		all = append(all, Signed{role, version, expires.UTC(), threshold, ids, by})
	}
	root := v.root.Signed
	of := func(name string) ([]string, int) { return root.Roles[name].KeyIDs, root.Roles[name].Threshold }
	ids, threshold := of(RoleRoot)
	add(RoleRoot, root.Version, root.Expires, ids, signers(v.root, ids, root.Keys), threshold)
	ids, threshold = of(RoleTargets)
	add(RoleTargets, v.targets.Signed.Version, v.targets.Signed.Expires, ids, signers(v.targets, ids, root.Keys), threshold)
	channels := v.targets.Signed.Delegations.Roles[0]
	add(RoleChannels, v.channels.Signed.Version, v.channels.Signed.Expires, channels.KeyIDs,
		signers(v.channels, channels.KeyIDs, v.targets.Signed.Delegations.Keys), channels.Threshold)
	ids, threshold = of(RoleSnapshot)
	add(RoleSnapshot, v.snapshot.Signed.Version, v.snapshot.Signed.Expires, ids, signers(v.snapshot, ids, root.Keys), threshold)
	ids, threshold = of(RoleTimestamp)
	add(RoleTimestamp, v.stamp.Signed.Version, v.stamp.Signed.Expires, ids, signers(v.stamp, ids, root.Keys), threshold)
	return all
}

// Signers returns the ids of the keys that signed the file of a role.
func (v *View) Signers(role string) []string {
	for _, s := range v.Signed() {
		if s.Role == role {
			return s.Signers
		}
	}
	return nil
}

// Expires returns until when the file of each role is good.
func (v *View) Expires() map[string]time.Time {
	expires := map[string]time.Time{}
	for _, s := range v.Signed() {
		expires[s.Role] = s.Expires
	}
	return expires
}

// SignedAt returns when the timestamp was signed, as it says itself.
func (v *View) SignedAt() time.Time {
	at, _ := readSignedAt(v.stamp.Signed.UnrecognizedFields)
	return at.UTC()
}

// Time returns the time by which expiry was judged.
func (v *View) Time() time.Time { return v.now }

// Stale returns an [ErrStale] when the time of any role's file is over. What
// Refresh returns never is; what Accepted returns may be.
func (v *View) Stale() error {
	for _, s := range v.Signed() {
		if v.now.After(s.Expires) {
			return stale(s.Role, s.Expires, v.now)
		}
	}
	return nil
}

// Root returns the newest root, as its holders signed it.
func (v *View) Root() []byte { return v.rootData }

// signers returns which of the keys have validly signed.
func signers[T metadata.Roles](meta *metadata.Metadata[T], ids []string, keys map[string]*metadata.Key) []string {
	payload, err := cjson.EncodeCanonical(meta.Signed)
	if err != nil {
		return nil
	}
	var valid []string
	for _, sig := range meta.Signatures {
		key := keys[sig.KeyID]
		if key == nil || !slices.Contains(ids, sig.KeyID) || slices.Contains(valid, sig.KeyID) {
			continue
		}
		public, err := hex.DecodeString(key.Value.PublicKey)
		if err == nil && len(public) == ed25519.PublicKeySize && ed25519.Verify(public, payload, sig.Signature) {
			valid = append(valid, sig.KeyID)
		}
	}
	return valid
}

// newestFirst orders releases.
func newestFirst(a, b Release) int { return release.CompareVersions(b.Version, a.Version) }

package trust

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// content is what targets.json and channels.json say together.
type content struct {
	releases map[targetPath]Release
	channels map[targetPath]string // the version that it names
}

// What ashlar signs beside length and hash; fields that are not known are let be.
type (
	customRelease struct {
		Artifact digest.Digest `json:"artifact"`
	}
	customChannel struct {
		Version string `json:"version"`
	}
)

// readContent reads both files. Channels may only choose among releases: every
// name in channels.json must stand for a document that targets.json has, to the
// byte.
func readContent(targets, channels *targetsFile) (content, error) {
	c := content{map[targetPath]Release{}, map[targetPath]string{}}
	for name, target := range targets.Signed.Targets {
		p, file, err := readTarget(RoleTargets, name, target)
		if err != nil {
			return c, err
		}
		switch p.kind {
		case kindRelease:
			var custom customRelease
			if err := readCustom(target, &custom); err != nil || custom.Artifact.Validate() != nil || custom.Artifact.Algorithm() != digest.SHA256 {
				return c, untrusted("the targets of this repository say no artifact for %q", name)
			}
			file.Version, file.Artifact = p.last, custom.Artifact
			c.releases[p] = file
		case kindChannel, kindWithdrawn:
			return c, untrusted("the targets of this repository hold %q, which belongs to its channels", name)
		}
	}
	for name, target := range channels.Signed.Targets {
		p, file, err := readTarget(RoleChannels, name, target)
		if err != nil {
			return c, err
		}
		switch p.kind {
		case kindRelease:
			return c, untrusted("the channels of this repository hold %q, which only the targets key may sign", name)
		case kindChannel:
			var custom customChannel
			if err := readCustom(target, &custom); err != nil {
				return c, untrusted("the channels of this repository say no version for %q", name)
			}
			signed, ok := c.releases[targetPath{kindRelease, p.image, custom.Version}]
			if !ok || !sameDocument(signed, file) {
				return c, untrusted("channel %q points at release %.80q of %s, which the targets key never signed", p.last, custom.Version, p.image)
			}
			c.channels[p] = custom.Version
		case kindWithdrawn:
			w, err := readWithdrawal(target)
			if err != nil {
				return c, untrusted("the channels of this repository withdraw %q without a reason and a time", name)
			}
			path := targetPath{kindRelease, p.image, p.last}
			signed, ok := c.releases[path]
			if !ok || !sameDocument(signed, file) {
				return c, untrusted("the channels of this repository withdraw release %s of %s, which the targets key never signed", p.last, p.image)
			}
			signed.Withdrawn = w
			c.releases[path] = signed
		}
	}
	return c, nil
}

func sameDocument(a, b Release) bool {
	return a.DocumentDigest == b.DocumentDigest && a.Length == b.Length
}

// readTarget reads name, length and hash of one target.
func readTarget(role, name string, target *metadata.TargetFiles) (targetPath, Release, error) {
	p, err := parsePath(name)
	if err != nil {
		return p, Release{}, untrusted("the %s of this repository: %v", role, err)
	}
	sum := target.Hashes["sha256"]
	if len(sum) != 32 || target.Length < 1 {
		return p, Release{}, untrusted("the %s of this repository give no length and sha256 for %q", role, name)
	}
	return p, Release{DocumentDigest: digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum)), Length: target.Length}, nil
}

func readCustom(target *metadata.TargetFiles, into any) error {
	if target.Custom == nil {
		return fmt.Errorf("%q has no custom field", target.Path)
	}
	return json.Unmarshal(*target.Custom, into)
}

func readWithdrawal(target *metadata.TargetFiles) (*Withdrawal, error) {
	w := &Withdrawal{}
	if err := readCustom(target, w); err != nil {
		return nil, err
	}
	if err := w.check(); err != nil {
		return nil, err
	}
	return w, nil
}

// check wants a reason that is fit for a terminal.
func (w *Withdrawal) check() error {
	if strings.TrimSpace(w.Reason) == "" || len(w.Reason) > maxReason || strings.ContainsFunc(w.Reason, notPrintable) {
		return fmt.Errorf("the reason %.80q is not a line of 1 to %d bytes", w.Reason, maxReason)
	}
	if w.At.IsZero() || w.At.Year() > 9999 {
		return fmt.Errorf("the withdrawal says no time")
	}
	w.At = w.At.UTC().Truncate(time.Second)
	return nil
}

// images returns everything that is published, sorted.
func (c content) images() []Target {
	set := map[Target]bool{}
	for p := range c.releases {
		set[p.image] = true
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b Target) int { return strings.Compare(a.String(), b.String()) })
}

// mustPublish refuses a repository of other images: one that holds anything
// under another name, or nothing for this architecture. The keys of a publisher
// may sign many images, so signatures do not tell them apart.
func (c content) mustPublish(image Target) error {
	all := c.images()
	other := slices.ContainsFunc(all, func(t Target) bool { return t.Name != image.Name })
	if !other && (len(all) == 0 || slices.Contains(all, image)) {
		return nil
	}
	names := make([]string, len(all))
	for i, t := range all {
		names[i] = t.String()
	}
	const most = 4
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return untrusted("this repository publishes %s, not %s", strings.Join(names, ", "), image)
}

// of returns the releases of one image, the newest first.
func (c content) of(image Target) []Release {
	var list []Release
	for p, r := range c.releases {
		if p.image == image {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, newestFirst)
	return list
}

package trust

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Changes says in words what Sign would sign, beside snapshot and timestamp.
func (e *Editor) Changes() ([]string, error) {
	var before content
	var targets *targetsFile
	if e.before != nil {
		before, targets = e.before.content, e.before.targets
	}
	lines, err := describe(before, targets, e.targets, e.channels)
	if err != nil {
		return nil, err
	}
	if e.before != nil && e.before.root.Signed.Version < e.root.Signed.Version {
		lines = append(describeRoot(e.before.root, e.root), lines...)
	}
	return lines, nil
}

// describe compares what was signed with what will be. It is made from the
// files alone, so that whoever is asked to sign them can make it again.
func describe(before content, oldTargets, targets, channels *targetsFile) ([]string, error) {
	after, err := readContent(targets, channels)
	if err != nil {
		return nil, err
	}
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, p := range paths(before.releases, after.releases) {
		old, was := before.releases[p]
		r, is := after.releases[p]
		switch {
		case !is:
			say("removes release %s of %s", p.last, p.image)
		case !was:
			say("adds release %s of %s, document %s", p.last, p.image, r.DocumentDigest)
		case !sameDocument(old, r) || old.Artifact != r.Artifact:
			say("changes release %s of %s, document %s, artifact %s", p.last, p.image, r.DocumentDigest, r.Artifact)
		}
		switch {
		case r.Withdrawn != nil && (old.Withdrawn == nil || *old.Withdrawn != *r.Withdrawn):
			say("withdraws release %s of %s: %s", p.last, p.image, r.Withdrawn.Reason)
		case is && r.Withdrawn == nil && old.Withdrawn != nil:
			say("reinstates release %s of %s", p.last, p.image)
		}
	}
	for _, p := range paths(before.channels, after.channels) {
		old, was := before.channels[p]
		version, is := after.channels[p]
		switch {
		case !is:
			say("removes channel %s of %s, which named %s", p.last, p.image, old)
		case !was:
			say("adds channel %s of %s, which names %s", p.last, p.image, version)
		case old != version:
			say("moves channel %s of %s from %s to %s", p.last, p.image, old, version)
		}
	}
	if oldTargets != nil {
		old, next := oldTargets.Signed.Delegations.Roles[0].KeyIDs, targets.Signed.Delegations.Roles[0].KeyIDs
		lines = append(lines, describeKeys(RoleChannels, old, next)...)
	}
	return lines, nil
}

// describeRoot says what a new root changes.
func describeRoot(old, next *rootFile) []string {
	lines := []string{fmt.Sprintf("root %d is good until %s", next.Signed.Version, next.Signed.Expires.UTC().Format(time.DateOnly))}
	for _, role := range []string{RoleRoot, RoleTargets, RoleSnapshot, RoleTimestamp} {
		oldIDs, oldThreshold := rootRole(old, role)
		ids, threshold := rootRole(next, role)
		lines = append(lines, describeKeys(role, oldIDs, ids)...)
		if threshold != oldThreshold {
			lines = append(lines, fmt.Sprintf("%s needs %d of %d signatures, and needed %d of %d", role, threshold, len(ids), oldThreshold, len(oldIDs)))
		}
	}
	return lines
}

func describeKeys(role string, old, next []string) []string {
	var lines []string
	for _, id := range old {
		if !slices.Contains(next, id) {
			lines = append(lines, fmt.Sprintf("revokes the %s key %.12s…", role, id))
		}
	}
	for _, id := range next {
		if !slices.Contains(old, id) {
			lines = append(lines, fmt.Sprintf("adds the %s key %.12s…", role, id))
		}
	}
	return lines
}

// paths returns the keys of both maps, sorted.
func paths[V any](a, b map[targetPath]V) []targetPath {
	set := map[targetPath]bool{}
	for p := range a {
		set[p] = true
	}
	for p := range b {
		set[p] = true
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b targetPath) int { return strings.Compare(a.String(), b.String()) })
}

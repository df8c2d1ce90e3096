package trust

import (
	"errors"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// explain says in a person's words what go-tuf found wrong with a role's file.
// Expiry is not among it: callers know the date.
func (w *walk) explain(role string, err error) error {
	if err == nil {
		return nil
	}
	var version *metadata.ErrBadVersionNumber
	switch {
	case errors.Is(err, &metadata.ErrUnsignedMetadata{}):
		return untrusted("the %s of this repository %s not signed by the key that must", role, are(role))
	case errors.As(err, &version) && role == RoleRoot:
		return untrusted("a new root of this repository does not have the number that follows")
	case errors.As(err, &version) && role == RoleSnapshot:
		return rollback("the snapshot of this repository names older targets or channels than this machine accepted before: somebody shows it the past")
	case errors.Is(err, &metadata.ErrRepository{}) && role == RoleSnapshot:
		return rollback("the snapshot of this repository has lost a file that was there before")
	}
	return malformed(role, err)
}

// explainRoot counts, for a root that does not follow from the one before.
func (w *walk) explainRoot(next *rootFile, err error) error {
	if errors.Is(err, &metadata.ErrUnsignedMetadata{}) {
		for _, by := range []*rootFile{w.tuf.Root, next} {
			role := by.Signed.Roles[RoleRoot]
			if got := len(signers(next, role.KeyIDs, by.Signed.Keys)); got < role.Threshold {
				return untrusted("root %d of this repository is signed by %d of the %d holders that root %d names, and %d must",
					next.Signed.Version, got, len(role.KeyIDs), by.Signed.Version, role.Threshold)
			}
		}
	}
	return w.explain(RoleRoot, err)
}

// explainTimestamp tells apart the ways in which a timestamp is not newer.
func (w *walk) explainTimestamp(next *timestampFile, err error) error {
	switch {
	case errors.Is(err, &metadata.ErrExpiredMetadata{}):
		return stale(RoleTimestamp, next.Signed.Expires, w.now)
	case errors.Is(err, &metadata.ErrEqualVersionNumber{}):
		return untrusted("this repository shows two different timestamps with the number %d", next.Signed.Version)
	case errors.Is(err, &metadata.ErrBadVersionNumber{}) && next.Signed.Version > w.tuf.Timestamp.Signed.Version:
		return rollback("the timestamp of this repository names an older snapshot than this machine accepted before: somebody shows it the past")
	case errors.Is(err, &metadata.ErrBadVersionNumber{}):
		return rollback("this repository shows timestamp %d, and this machine accepted %d before: somebody shows it the past",
			next.Signed.Version, w.tuf.Timestamp.Signed.Version)
	}
	return w.explain(RoleTimestamp, err)
}

// mixed says that a file is genuine or not, but not the one that belongs here.
func mixed(role, by string) error {
	one := "the one"
	if are(role) == "are" {
		one = "those"
	}
	return untrusted("the %s of this repository %s not %s that its %s names: parts of different states were put together", role, are(role), one, by)
}

func malformed(role string, err error) error {
	return untrusted("the %s of this repository %s malformed: %v", role, are(role), err)
}

// are is the verb for the name of a role.
func are(role string) string {
	if role == RoleTargets || role == RoleChannels {
		return "are"
	}
	return "is"
}

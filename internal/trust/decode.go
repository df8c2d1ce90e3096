package trust

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// signedAt is a signed field of timestamp and snapshot that TUF does not have:
// when it was signed, RFC 3339. A machine's clock cannot be before it.
const signedAt = "ashlar-signed-at"

// The metadata of each role, as go-tuf has it.
type (
	rootFile      = metadata.Metadata[metadata.RootType]
	timestampFile = metadata.Metadata[metadata.TimestampType]
	snapshotFile  = metadata.Metadata[metadata.SnapshotType]
	targetsFile   = metadata.Metadata[metadata.TargetsType]
)

// decode reads a metadata file and checks its form; its signatures are not
// checked here. The form is stricter than TUF's: what ashlar never writes is
// refused, except fields that are not known, which are kept and signed.
func decode[T metadata.Roles](role string, data []byte, check func(*T) error) (*metadata.Metadata[T], error) {
	if int64(len(data)) > limit(role) {
		return nil, tooLong(role, limit(role))
	}
	if err := checkJSON(data); err != nil {
		return nil, malformed(role, err)
	}
	meta, err := new(metadata.Metadata[T]).FromBytes(data)
	if err != nil {
		return nil, malformed(role, err)
	}
	if err := check(&meta.Signed); err != nil {
		return nil, malformed(role, err)
	}
	return meta, nil
}

func decodeRoot(data []byte) (*rootFile, error) {
	return decode(RoleRoot, data, func(s *metadata.RootType) error {
		if !s.ConsistentSnapshot {
			return errors.New("it has no consistent snapshots")
		}
		if err := checkKeys(s.Keys); err != nil {
			return err
		}
		if len(s.Roles) != 4 {
			return fmt.Errorf("it has %d roles, want 4", len(s.Roles))
		}
		for _, name := range []string{RoleRoot, RoleTargets, RoleSnapshot, RoleTimestamp} {
			role, ok := s.Roles[name]
			if !ok {
				return fmt.Errorf("it has no role %q", name)
			}
			if err := checkRole(name, role.KeyIDs, role.Threshold, s.Keys); err != nil {
				return err
			}
		}
		return checkHead(s.SpecVersion, s.Version, s.Expires)
	})
}

func decodeTimestamp(data []byte) (*timestampFile, error) {
	return decode(RoleTimestamp, data, func(s *metadata.TimestampType) error {
		if err := checkMeta(s.Meta, RoleSnapshot); err != nil {
			return err
		}
		if at, err := readSignedAt(s.UnrecognizedFields); err != nil || at.After(s.Expires) {
			return fmt.Errorf("%q is not a time before it expires", signedAt)
		}
		return checkHead(s.SpecVersion, s.Version, s.Expires)
	})
}

func decodeSnapshot(data []byte) (*snapshotFile, error) {
	return decode(RoleSnapshot, data, func(s *metadata.SnapshotType) error {
		if err := checkMeta(s.Meta, RoleTargets, RoleChannels); err != nil {
			return err
		}
		return checkHead(s.SpecVersion, s.Version, s.Expires)
	})
}

// decodeTargets reads targets.json, which delegates to the role channels and to
// nobody else.
func decodeTargets(data []byte) (*targetsFile, error) {
	return decode(RoleTargets, data, func(s *metadata.TargetsType) error {
		d := s.Delegations
		if d == nil || len(d.Roles) != 1 || d.SuccinctRoles != nil {
			return fmt.Errorf("it does not delegate to %q, or to more than that", RoleChannels)
		}
		role := d.Roles[0]
		if role.Name != RoleChannels || !slices.Equal(role.Paths, channelPaths()) || len(role.PathHashPrefixes) != 0 {
			return fmt.Errorf("it delegates %q to %q, and not %q to %q", role.Paths, role.Name, channelPaths(), RoleChannels)
		}
		if err := checkKeys(d.Keys); err != nil {
			return err
		}
		if err := checkRole(role.Name, role.KeyIDs, role.Threshold, d.Keys); err != nil {
			return err
		}
		return checkHead(s.SpecVersion, s.Version, s.Expires)
	})
}

func decodeChannels(data []byte) (*targetsFile, error) {
	return decode(RoleChannels, data, func(s *metadata.TargetsType) error {
		if s.Delegations != nil {
			return errors.New("it delegates further")
		}
		return checkHead(s.SpecVersion, s.Version, s.Expires)
	})
}

// channelPaths is what the role channels may speak of.
func channelPaths() []string { return []string{kindChannel + "/*/*/*", kindWithdrawn + "/*/*/*"} }

func checkHead(spec string, version int64, expires time.Time) error {
	if !strings.HasPrefix(spec, "1.") {
		return fmt.Errorf("it follows version %.20q of the TUF specification, and this ashlar reads 1.x", spec)
	}
	if version < 1 || version > maxVersion {
		return fmt.Errorf("its number %d is not between 1 and %d", version, maxVersion)
	}
	if expires.IsZero() {
		return errors.New("it does not say when it expires")
	}
	return nil
}

// checkKeys wants ed25519 keys under their true ids. An id that is not the
// digest of its key would let one key count as several; so would an unknown field
// in a key, which changes the digest.
func checkKeys(keys map[string]*metadata.Key) error {
	seen := map[string]bool{}
	for id, key := range keys {
		if key.Type != metadata.KeyTypeEd25519 || key.Scheme != metadata.KeySchemeEd25519 {
			return fmt.Errorf("key %.12q is of type %.20q, want %q", id, key.Type, metadata.KeyTypeEd25519)
		}
		// go-tuf gives a key of any length to crypto/ed25519, which panics.
		if public, err := hex.DecodeString(key.Value.PublicKey); err != nil || len(public) != 32 {
			return fmt.Errorf("key %.12q has no 32 bytes", id)
		}
		if want, err := key.ID(); err != nil || want != id {
			return fmt.Errorf("key %.12q is not the key that this id stands for", id)
		}
		if public := strings.ToLower(key.Value.PublicKey); seen[public] {
			return errors.New("one key stands there under two ids")
		} else {
			seen[public] = true
		}
	}
	return nil
}

func checkRole(name string, ids []string, threshold int, keys map[string]*metadata.Key) error {
	if len(ids) > maxKeys {
		return fmt.Errorf("the role %q has %d keys, at most %d are allowed", name, len(ids), maxKeys)
	}
	if threshold < 1 || threshold > len(ids) {
		return fmt.Errorf("the role %q wants %d signatures of %d keys", name, threshold, len(ids))
	}
	for i, id := range ids {
		if slices.Contains(ids[:i], id) {
			return fmt.Errorf("the role %q lists key %.12q twice", name, id)
		}
		if keys[id] == nil {
			return fmt.Errorf("the role %q lists key %.12q, which is not there", name, id)
		}
	}
	return nil
}

// checkMeta wants length and sha256 for each role, which TUF leaves optional:
// they are what ties a set of files together.
func checkMeta(meta map[string]*metadata.MetaFiles, roles ...string) error {
	for name, m := range meta {
		if m.Version < 1 || m.Version > maxVersion {
			return fmt.Errorf("the number %d of %.80q is not between 1 and %d", m.Version, name, maxVersion)
		}
		if m.Length < 1 || len(m.Hashes) != 1 || len(m.Hashes["sha256"]) != 32 {
			return fmt.Errorf("%.80q has no length, or not exactly a sha256", name)
		}
	}
	for _, role := range roles {
		m, ok := meta[role+".json"]
		if !ok {
			return fmt.Errorf("it does not list %q", role+".json")
		}
		if m.Length > limit(role) {
			return fmt.Errorf("it says that %q has %d bytes, at most %d are allowed", role+".json", m.Length, limit(role))
		}
	}
	return nil
}

func readSignedAt(fields map[string]any) (time.Time, error) {
	s, _ := fields[signedAt].(string)
	return time.Parse(time.RFC3339, s)
}

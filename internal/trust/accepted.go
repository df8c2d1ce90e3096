package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/limited"
)

// What a client accepted is a directory of the very files it read, beside a note:
//
//	DIR/current -> generation-123456
//	DIR/generation-123456/accepted.json, 2.root.json, …, timestamp.json, 7.snapshot.json, …
//	DIR/lock
//
// A generation is written and synced whole before the link is renamed, so a cut
// leaves the old one or the new. Readers take no lock. Writers take one for the
// moments of writing, so that of two checks at once the older does not win.
//
// The directory is not sealed, and so it is not believed: every use verifies it
// again from the root in the image. Who can write to it can make this machine
// forget, by deleting it, and nothing else.

const (
	currentName    = "current"
	lockName       = "lock"
	noteName       = "accepted.json"
	generationName = "generation-"
)

// note is the content of accepted.json.
type note struct {
	Schema int       `json:"schema"`
	At     time.Time `json:"at"`     // when it was accepted, or last found unchanged, by this machine's clock
	Root   int64     `json:"root"`   // the newest root that was verified
	Online string    `json:"online"` // see onlineKeys
}

// accepted is what a client accepted before. The zero value is nothing.
type accepted struct {
	note
	files    Files
	signedAt time.Time // of the timestamp; only set once that was verified
}

// rootNumber reads the name of a root's file.
func rootNumber(name string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, "."+RoleRoot+".json")
	var v int64
	if _, err := fmt.Sscanf(digits, "%d", &v); !ok || err != nil || v < 1 || FileName(RoleRoot, v) != name {
		return 0, false
	}
	return v, true
}

// reconcile forgets the accepted files, and the floors of time that come from
// them, when the root has replaced the keys of timestamp or snapshot. Their
// thief may have signed the highest number there is, or a far future; without
// this nothing true could ever follow (the fast-forward attack, TUF
// specification 5.3.11).
func (a *accepted) reconcile(root *rootFile) {
	if a.files != nil && a.Online != onlineKeys(root) {
		*a = accepted{note: note{At: a.At}}
	}
}

// intact says whether the files that were kept are whole, knowing what was
// verified since: under the same timestamp it must be the same, and without one
// there is nothing.
func (a *accepted) intact(verified Files) bool {
	stamp := a.files[stampName]
	if stamp == nil {
		return a.find(RoleSnapshot) == nil
	}
	if string(stamp) != string(verified[stampName]) {
		return true // or at least it was not needed
	}
	for name, data := range verified {
		if roleOf(name) != RoleRoot && string(data) != string(a.files[name]) {
			return false
		}
	}
	return true
}

// onlineKeys names the keys of timestamp and snapshot.
func onlineKeys(root *rootFile) string {
	h := sha256.New()
	for _, name := range []string{RoleTimestamp, RoleSnapshot} {
		role := root.Signed.Roles[name]
		fmt.Fprintln(h, name, role.Threshold, slices.Sorted(slices.Values(role.KeyIDs)))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// load reads what was accepted. Nothing is not an error.
func (c *Client) load() (*accepted, error) {
	if c.Dir == "" {
		return &accepted{}, nil
	}
	for tries := 0; ; tries++ {
		name, err := os.Readlink(filepath.Join(c.Dir, currentName))
		if errors.Is(err, fs.ErrNotExist) {
			return &accepted{}, nil
		}
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(name, generationName) || strings.Contains(name, "/") {
			return nil, fmt.Errorf("%q leads to %q, which is not a generation", filepath.Join(c.Dir, currentName), name)
		}
		kept, err := loadGeneration(filepath.Join(c.Dir, name))
		if errors.Is(err, fs.ErrNotExist) && tries < 10 {
			continue // another check accepted something newer and removed this one
		}
		return kept, err
	}
}

func loadGeneration(dir string) (*accepted, error) {
	data, err := limited.File(filepath.Join(dir, noteName), maxTimestamp)
	if err != nil {
		return nil, err
	}
	kept := &accepted{files: Files{}}
	if err := json.Unmarshal(data, &kept.note); err != nil || kept.Schema != 1 {
		return nil, fmt.Errorf("%q is not what was written there", filepath.Join(dir, noteName))
	}
	names := Dir(dir).Names()
	if len(names) > maxRootSteps+8 {
		return nil, fmt.Errorf("%q holds %d files, which nobody wrote there", dir, len(names))
	}
	for _, name := range names {
		if name == noteName {
			continue
		}
		if kept.files[name], err = limited.File(filepath.Join(dir, name), maxTargets); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// keep makes files the accepted ones, unless what is there by now is newer. When
// what is there was found to be damaged it is not asked.
func (c *Client) keep(files Files, n note, damage error) error {
	if c.Dir == "" {
		return nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(c.Dir, lockName), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return fmt.Errorf("locking %q: %w", lock.Name(), err)
	}
	if there, err := c.load(); err != nil {
		if err := os.RemoveAll(filepath.Join(c.Dir, currentName)); err != nil {
			return err
		}
	} else if damage == nil && there.newerThan(files, n) {
		return nil
	}
	dir, err := os.MkdirTemp(c.Dir, generationName)
	if err != nil {
		return err
	}
	if err := c.writeGeneration(dir, files, n); err != nil {
		os.RemoveAll(dir)
		return fmt.Errorf("keeping the accepted metadata: %w", err)
	}
	return c.clean(filepath.Base(dir))
}

// newerThan compares two sets that were both verified. Numbers of timestamps
// say something only under the same keys.
func (a *accepted) newerThan(files Files, n note) bool {
	if a.Root != n.Root {
		return a.Root > n.Root
	}
	if a.Online != n.Online {
		return false
	}
	version := func(files Files) int64 {
		t, err := decodeTimestamp(files[stampName])
		if err != nil {
			return 0
		}
		return t.Signed.Version
	}
	return version(a.files) > version(files)
}

func (c *Client) writeGeneration(dir string, files Files, n note) error {
	n.Schema = 1
	data, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, noteName), append(data, '\n'), 0o644); err != nil {
		return err
	}
	for name, data := range files {
		if err := writeFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	// Everything is on the disk before the one rename that makes it count.
	link := filepath.Join(c.Dir, currentName+".new")
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(filepath.Base(dir), link); err != nil {
		return err
	}
	if err := os.Rename(link, filepath.Join(c.Dir, currentName)); err != nil {
		return err
	}
	return syncDir(c.Dir)
}

// clean removes generations that are not current.
func (c *Client) clean(current string) error {
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), generationName) && e.Name() != current {
			if err := os.RemoveAll(filepath.Join(c.Dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

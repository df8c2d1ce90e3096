package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Kind is what happened to a deployment.
type Kind string

// The kinds, in the order of a life.
const (
	Installed    Kind = "installed" // from a medium, and read back
	Staged       Kind = "staged"
	Booted       Kind = "booted"        // the loader chose it, and its system was started
	Blessed      Kind = "blessed"       // a boot was found good; told when that changed something
	Failed       Kind = "failed"        // a boot failed, or, by the loader, all tries are used up
	CountedAgain Kind = "counted-again" // was good once, and has to prove itself anew
	Kept         Kind = "kept"          // nothing here boots well, and this gets furthest
	RolledBack   Kind = "rolled-back"   // another deployment was chosen instead of it
	Pinned       Kind = "pinned"
	Unpinned     Kind = "unpinned"
	Removed      Kind = "removed"
	Reset        Kind = "reset" // /etc and /var went back to the image's, while it was to boot
)

// The kinds that are about the boot loader (package loader). The deployment is the
// one whose image brings it.
const (
	LoaderTried   Kind = "loader-tried"   // the next boot begins with it
	LoaderFailed  Kind = "loader-failed"  // it did not start this machine, and was taken away
	LoaderUpdated Kind = "loader-updated" // it did, and both copies are the same
)

// Who an event is by, where it was no person. A person is the user's name.
const (
	ByLoader = "loader"      // systemd-boot, by counting
	ByInit   = "ashlar-init" // the first process
	ByHealth = "health"      // the health checks
	ByTimer  = "timer"       // the look for updates from time to time
	ByAgent  = "agent"       // what runs after every good boot
)

// Event is one line of the history.
type Event struct {
	Time  string        `json:"time"` // RFC 3339, UTC, as the machine's clock had it
	Kind  Kind          `json:"event"`
	Image verity.Digest `json:"image"`
	ID    string        `json:"id"` // NAME-VERSION
	By    string        `json:"by"`
	Why   string        `json:"why"`
}

const (
	logFile = "history"
	oldFile = "history.1"

	maxLog  = 256 << 10 // bytes of a file; then it becomes the old one
	maxLine = 4 << 10   // bytes
	maxWhy  = 1 << 10   // bytes
)

// Append adds an event to the history of the store in dir. The time is now
// where it has none.
func Append(dir string, e Event) error {
	if e.Time == "" {
		e.Time = time.Now().UTC().Format(time.RFC3339)
	}
	e.ID, e.By, e.Why = oneLine(e.ID, 256), oneLine(e.By, 64), oneLine(e.Why, maxWhy)
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, logFile), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("writing the history: %w", err)
	}
	defer f.Close()
	var text []byte
	if torn(f) {
		text = append(text, '\n')
	}
	text = append(append(text, line...), '\n')
	if _, err := f.Write(text); err != nil {
		return fmt.Errorf("writing the history: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("writing the history: %w", err)
	}
	return nil
}

// torn reports whether the last line of the file has no end.
func torn(f *os.File) bool {
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], st.Size()-1)
	return err == nil && last[0] != '\n'
}

// Rotate puts a history that has grown long away in place of the old one. Only
// who holds the store's lock may, or the first process, which is alone.
func Rotate(dir string) error {
	path := filepath.Join(dir, logFile)
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && st.Size() < maxLog {
		return nil
	}
	if err == nil {
		err = os.Rename(path, filepath.Join(dir, oldFile))
	}
	if err != nil {
		return fmt.Errorf("putting the old history away: %w", err)
	}
	return nil
}

// Read returns the history, oldest first. What is no event is passed over: the
// end of a line that was cut, or what a newer version of this program wrote.
func Read(dir string) ([]Event, error) {
	var list []Event
	for _, name := range []string{oldFile, logFile} {
		// What has grown beyond its limit is read from its end.
		b, err := readTail(filepath.Join(dir, name), 2*maxLog)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the history: %w", err)
		}
		list = append(list, decodeLog(b)...)
	}
	return list, nil
}

func decodeLog(b []byte) (list []Event) {
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		b = rest
		var e Event
		if len(line) > maxLine || json.Unmarshal(line, &e) != nil || e.Kind == "" {
			continue
		}
		if _, err := time.Parse(time.RFC3339, e.Time); err != nil {
			continue
		}
		e.Kind = Kind(oneLine(string(e.Kind), 32))
		e.ID, e.By, e.Why = oneLine(e.ID, 256), oneLine(e.By, 64), oneLine(e.Why, maxWhy)
		list = append(list, e)
	}
	return list
}

// readTail reads a regular file, at most its last limit bytes.
func readTail(path string, limit int64) ([]byte, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st.Size() > limit {
		if _, err := f.Seek(-limit, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

package trust

import (
	"errors"
	"fmt"
	"time"
)

// The kinds of errors that callers tell apart, with errors.Is. Every other
// error of this package is an ordinary one: a disk, a network, a cut.
var (
	// ErrUntrusted: what the repository holds was not signed as it must be, or
	// does not belong together. Somebody lies, or made a grave mistake.
	ErrUntrusted = errors.New("the repository cannot be trusted")

	// ErrRollback: it was signed, but it is older than what was accepted
	// before. Every ErrRollback is an ErrUntrusted too.
	ErrRollback = errors.New("the repository went back in time")

	// ErrStale: it was signed, and its time is over. Nothing newer was
	// published, or somebody holds it back.
	ErrStale = errors.New("the repository's signatures are stale")

	// ErrNothingAccepted: this directory has not accepted anything yet.
	ErrNothingAccepted = errors.New("no metadata was accepted yet")

	// ErrUnknown: the channel or version is not there. It is no lie: nobody
	// ever said it was, or it was taken away.
	ErrUnknown = errors.New("not published")
)

// kindError is a sentence of some kind.
type kindError struct {
	kind  error
	text  string
	cause error
}

func (e *kindError) Error() string {
	if e.cause != nil {
		return e.text + ": " + e.cause.Error()
	}
	return e.text
}

func (e *kindError) Is(target error) bool {
	return target == e.kind || target == ErrUntrusted && e.kind == ErrRollback
}

func (e *kindError) Unwrap() error { return e.cause }

func untrusted(format string, args ...any) error {
	return &kindError{kind: ErrUntrusted, text: fmt.Sprintf(format, args...)}
}

func rollback(format string, args ...any) error {
	return &kindError{kind: ErrRollback, text: fmt.Sprintf(format, args...)}
}

func unknown(format string, args ...any) error {
	return &kindError{kind: ErrUnknown, text: fmt.Sprintf(format, args...)}
}

func tooLong(name string, limit int64) error {
	return untrusted("%q is longer than %d KiB, which no honest repository needs", name, limit>>10)
}

// stale says that the time of a role's file is over. The cure differs: a
// timestamp is renewed by a machine every few days, the others by people.
func stale(role string, expires, now time.Time) error {
	const day = time.DateOnly
	at := func(t time.Time) string {
		if expires.Format(day) == now.Format(day) {
			return t.Format("2006-01-02 15:04:05 UTC")
		}
		return t.Format(day)
	}
	expires, now = expires.UTC(), now.UTC()
	return &kindError{kind: ErrStale, text: fmt.Sprintf(
		"the %s of this repository expired on %s and this machine's clock says %s: nothing newer was published, or somebody holds it back",
		role, at(expires), at(now))}
}

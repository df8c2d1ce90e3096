package registry

import "errors"

// ErrUnreachable is what errors are (errors.Is) when a repository could not be
// asked: no network, no such host, a certificate that is not believed, no
// answer in time, an answer that breaks off again and again, a server that is
// busy, is broken, or wants to know who asks. What a repository *answers*, and
// is not what it should be, is never this.
var ErrUnreachable = errors.New("the repository cannot be reached")

// unreachable marks an error as ErrUnreachable, in its own words.
type unreachable struct{ err error }

func (u *unreachable) Error() string        { return u.err.Error() }
func (u *unreachable) Unwrap() error        { return u.err }
func (u *unreachable) Is(target error) bool { return target == ErrUnreachable }

// What stays transient after the last attempt, what a password would cure, and
// what speaks no TLS are unreachable too.
func (t *transient) Is(target error) bool      { return target == ErrUnreachable }
func (e *LoginError) Is(target error) bool     { return target == ErrUnreachable }
func (e *PlainHTTPError) Is(target error) bool { return target == ErrUnreachable }

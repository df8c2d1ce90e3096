package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/limited"
	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// signingOptions are those of every verb that changes what a repository says.
type signingOptions struct {
	keys       string // a directory
	out, in    string // files: a request for signatures, and one that was signed
	passphrase passphraseOptions
}

func (o *signingOptions) register(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&o.keys, "keys", "", "sign with the keys of `DIR`")
	flags.StringVar(&o.out, "out", "", "change nothing, and write to `FILE` what holders of other keys have to sign")
	flags.StringVar(&o.in, "in", "", "take the signatures of `FILE`, which --out wrote and \"ashlar keys sign\" signed")
	o.passphrase.register(flags)
	c.MarkFlagDirname("keys")
	c.MarkFlagFilename("out", "json")
	c.MarkFlagFilename("in", "json")
	c.MarkFlagsMutuallyExclusive("out", "in")
}

// signing is a repository that is about to be signed anew.
type signing struct {
	repo    *registry.Repository
	keys    *trust.Keyring
	before  *registry.Trust // nil: it is not signed yet
	editor  *trust.Editor
	options signingOptions
}

// signedAnswer is what a verb that signs says of it with --json.
type signedAnswer struct {
	Changes []string  `json:"changes"`           // sentences
	Request string    `json:"request,omitempty"` // the file with what is to be signed elsewhere; nothing was published
	Until   time.Time `json:"until,omitzero"`    // when the first signature expires
	Role    string    `json:"role,omitempty"`    // whose that is
}

// openSigning reads what repo says now. It is verified like on a machine.
func openSigning(ctx context.Context, repo *registry.Repository, o signingOptions) (*signing, error) {
	keys, err := openKeys(o.keys, o.passphrase)
	if err != nil {
		return nil, err
	}
	return openSigningWith(ctx, repo, keys, o)
}

func openSigningWith(ctx context.Context, repo *registry.Repository, keys *trust.Keyring, o signingOptions) (*signing, error) {
	s := &signing{repo: repo, keys: keys, options: o}
	expiry, err := readExpiry(o.keys)
	if err != nil {
		return nil, err
	}
	name, err := fixedRepository(repo.Name)
	if err != nil {
		return nil, err
	}
	var source trust.Source
	s.before, err = repo.ReadTrust(ctx)
	switch {
	case err == nil:
		source = s.before
	case errors.Is(err, registry.ErrNoTrust):
		s.before = nil
	default:
		return nil, answered(ctx, err)
	}
	s.editor, err = trust.Open(ctx, s.keys, source, trust.EditorOptions{Repository: name, Expiry: expiry.durations()})
	switch {
	case errors.Is(err, trust.ErrRollback):
		memory := filepath.Join(o.keys, "accepted", url.PathEscape(name))
		err = &hintError{err, fmt.Sprintf("if you went back in it yourself, remove %q: what these keys remember of it", memory)}
	case errors.Is(err, trust.ErrUntrusted):
		err = &hintError{err, fmt.Sprintf("the keys in %q must be those that the repository was begun with", o.keys)}
	}
	return s, err
}

// openKeys reads a directory of keys.
func openKeys(dir string, passphrase passphraseOptions) (*trust.Keyring, error) {
	if dir == "" {
		return nil, &codeError{exitUsage, &hintError{
			errors.New("--keys is missing: nothing is published that is not signed"),
			"--keys DIR names the keys; ashlar keys init DIR makes some",
		}}
	}
	return trust.OpenKeyring(dir, passphrase.source())
}

// edit changes what will be signed. Of a request that comes back, the change must
// be what was asked for.
func (s *signing) edit(change func(*trust.Editor) error) error {
	if s.options.in == "" {
		return change(s.editor)
	}
	request, err := readRequest(s.options.in)
	if err != nil {
		return err
	}
	if err := s.editor.Merge(request); err != nil {
		return requestError(s.options.in, err)
	}
	asked, err := s.editor.Changes()
	if err != nil {
		return err
	}
	if err := change(s.editor); err != nil {
		return err
	}
	wanted, err := s.editor.Changes()
	if err != nil {
		return err
	}
	if !slices.Equal(asked, wanted) {
		return requestError(s.options.in, fmt.Errorf("it asks for other changes than this command makes: it %s", strings.Join(asked, ", ")))
	}
	return nil
}

// finish signs, lets publish do what must be there before the signatures are,
// and puts those into the repository. Passphrases are asked for first of all.
func (s *signing) finish(ctx context.Context, publish func() error) (a signedAnswer, err error) {
	if a.Changes, err = s.editor.Changes(); err != nil {
		return a, err
	}
	if a.Changes == nil {
		a.Changes = []string{}
	}
	if s.options.out != "" {
		request, err := s.editor.Request()
		if err != nil {
			return a, err
		}
		a.Request = s.options.out
		return a, writeRequest(s.options.out, request)
	}
	files, err := s.editor.Sign(ctx)
	if errors.Is(err, trust.ErrNoKey) {
		err = &hintError{err, "--out FILE writes a request, which who has the key signs with \"ashlar keys sign\""}
	}
	if err != nil {
		return a, err
	}
	if publish != nil {
		if err := publish(); err != nil {
			return a, err
		}
	}
	if err := s.repo.WriteTrust(ctx, files, s.before); err != nil {
		return a, err
	}
	if err := s.editor.Published(ctx); err != nil {
		return a, fmt.Errorf("%s is signed; remembering that in %q failed: %w", s.repo.Name, s.keys.Dir(), err)
	}
	view, err := (&trust.Client{Root: s.keys.Roots()[0]}).Look(ctx, files)
	if err != nil {
		return a, err
	}
	a.Role, a.Until = firstToExpire(view)
	return a, nil
}

// firstToExpire says which role's signatures are good for the shortest time.
func firstToExpire(view *trust.View) (role string, until time.Time) {
	for _, s := range view.Signed() {
		if until.IsZero() || s.Expires.Before(until) {
			role, until = s.Role, s.Expires
		}
	}
	return role, until
}

// print tells a person what was signed, or who has to sign it.
func (a signedAnswer) print(g *globals) {
	if a.Request == "" {
		g.printf("  signed   until %s, when the %s expires\n", a.Until.Format(time.DateOnly), a.Role)
		return
	}
	g.printf("%s asks the holders of the keys for this:\n", a.Request)
	for _, line := range a.Changes {
		g.printf("  %s\n", line)
	}
	g.printf("Nothing was changed. They sign it with: ashlar keys sign %s --keys DIR\nThe same command with --in %[1]s then goes on.\n", a.Request)
}

// maxRequest limits a request that is read, in bytes.
const maxRequest = 32 << 20

func readRequest(path string) (*trust.Request, error) {
	b, err := limited.File(path, maxRequest)
	if err != nil {
		return nil, err
	}
	request, err := trust.DecodeRequest(b)
	if err != nil {
		return nil, requestError(path, err)
	}
	return request, nil
}

func writeRequest(path string, request *trust.Request) error {
	b, err := request.Encode()
	if err != nil {
		return err
	}
	return renameio.WriteFile(path, b, 0o644)
}

func requestError(path string, err error) error { return fmt.Errorf("%q: %w", path, err) }

// lie is what a repository answered, and no honest one does.
type lie struct{ error }

func (e *lie) Unwrap() error        { return e.error }
func (e *lie) Is(target error) bool { return target == trust.ErrUntrusted }

// answered sorts the errors of reading signed metadata: what could not be asked
// is one thing, what was answered and is no such metadata another.
func answered(ctx context.Context, err error) error {
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, registry.ErrUnreachable), errors.Is(err, registry.ErrNotFound) && !errors.Is(err, registry.ErrNoTrust):
		return err
	case errors.Is(err, registry.ErrNoTrust):
		return &hintError{&lie{err}, "its publisher signs it with ashlar publish --keys"}
	}
	return &lie{err}
}

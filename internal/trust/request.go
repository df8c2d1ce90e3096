package trust

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Request asks holders of keys that are elsewhere for signatures. It is a file
// that travels to them and back; docs/trust.md describes it.
//
// Nobody has to believe its summary: it is made again from the metadata before
// anything is signed, and so is everything that it is compared with: roots are
// verified from the holder's own root on, and the rest from those.
type Request struct {
	Schema     int                        `json:"schema"`
	Repository string                     `json:"repository,omitempty"` // as the publisher names it; empty for a root
	Summary    []string                   `json:"summary"`
	Roots      []json.RawMessage          `json:"roots"`            // all there are, the newest last
	Before     map[string]json.RawMessage `json:"before,omitempty"` // targets and channels as they are now
	Sign       map[string]json.RawMessage `json:"sign"`             // by role: the next ones, with the signatures so far
}

const (
	requestSchema = 1
	maxRequest    = 4*maxTargets + maxRoot
)

// Encode writes a request as a file.
func (r *Request) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	return append(data, '\n'), err
}

// DecodeRequest reads a request. What it asks for is not judged here.
func DecodeRequest(data []byte) (*Request, error) {
	if len(data) > maxRequest {
		return nil, fmt.Errorf("the request has %d bytes, at most %d are allowed", len(data), maxRequest)
	}
	if err := checkJSON(data); err != nil {
		return nil, fmt.Errorf("the request is malformed: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	r := &Request{}
	if err := dec.Decode(r); err != nil {
		return nil, fmt.Errorf("the request is malformed: %w", err)
	}
	if r.Schema != requestSchema {
		return nil, fmt.Errorf("the request has schema %d, and this ashlar reads schema %d only", r.Schema, requestSchema)
	}
	// In the file they are laid out for people; limits are about the bare ones.
	for i := range r.Roots {
		r.Roots[i] = compact(r.Roots[i])
	}
	for _, files := range []map[string]json.RawMessage{r.Before, r.Sign} {
		for role := range files {
			files[role] = compact(files[role])
		}
	}
	return r, nil
}

func compact(data json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		return data // and whoever decodes it says why
	}
	return b.Bytes()
}

// Request asks for the signatures that the next root still needs.
func (c *RootChange) Request() (*Request, error) {
	data, err := encode(c.next)
	if err != nil {
		return nil, err
	}
	return &Request{
		Schema: requestSchema, Summary: c.Changes(), Roots: c.keys.rawRoots(),
		Sign: map[string]json.RawMessage{RoleRoot: data},
	}, nil
}

func (k *Keyring) rawRoots() []json.RawMessage {
	var roots []json.RawMessage
	for v := int64(1); v <= k.root.Signed.Version; v++ {
		if data, ok := k.roots[v]; ok {
			roots = append(roots, data)
		}
	}
	return roots
}

// Request asks for the signatures under targets and channels that Sign needs:
// as they will be, with number and expiry. Snapshot and timestamp are signed
// when it comes back.
func (e *Editor) Request() (*Request, error) {
	r := &Request{
		Schema: requestSchema, Repository: e.opts.Repository, Roots: e.keys.rawRoots(),
		Before: map[string]json.RawMessage{}, Sign: map[string]json.RawMessage{},
	}
	if e.before != nil {
		r.Before[RoleTargets], r.Before[RoleChannels] = e.before.file(RoleTargets), e.before.file(RoleChannels)
	}
	for role, file := range map[string]*targetsFile{RoleTargets: e.targets, RoleChannels: e.channels} {
		if !e.due(role) {
			continue
		}
		if err := e.date(role, file); err != nil {
			return nil, err
		}
		data, err := encode(file)
		if err != nil {
			return nil, err
		}
		r.Sign[role] = data
	}
	if len(r.Sign) == 0 {
		return nil, errors.New("nothing changed that targets or channels would have to sign")
	}
	p, err := r.parse()
	if err != nil {
		return nil, err
	}
	r.Summary = p.summary
	return r, nil
}

// parsed is a request whose parts were read, and verified as far as they were
// signed before.
type parsed struct {
	roots             []*rootFile
	root              *rootFile // the newest of them
	next              *rootFile // to be signed, or nil
	targets, channels *targetsFile
	signTargets       bool
	signChannels      bool
	summary           []string
}

func (r *Request) parse() (*parsed, error) {
	bad := func(err error) (*parsed, error) { return nil, fmt.Errorf("the request: %w", err) }
	if len(r.Roots) == 0 {
		return bad(errors.New("it holds no root"))
	}
	roots, err := r.followRoots()
	if err != nil {
		return bad(err)
	}
	root := roots[len(roots)-1]
	p := &parsed{roots: roots, root: root}
	if data, ok := r.Sign[RoleRoot]; ok {
		if len(r.Sign) != 1 {
			return bad(errors.New("it mixes a root with other files"))
		}
		if p.next, err = decodeRoot(data); err != nil {
			return bad(err)
		}
		if p.next.Signed.Version != root.Signed.Version+1 {
			return bad(fmt.Errorf("root %d does not follow root %d", p.next.Signed.Version, root.Signed.Version))
		}
		p.summary = describeRoot(root, p.next)
		return p, nil
	}
	for role := range r.Sign {
		if role != RoleTargets && role != RoleChannels {
			return bad(fmt.Errorf("nobody signs the role %.40q by request", role))
		}
	}
	if err := r.parseTargets(p); err != nil {
		return bad(err)
	}
	return p, nil
}

// followRoots verifies that each root follows from the one before it.
func (r *Request) followRoots() ([]*rootFile, error) {
	var roots []*rootFile
	w := &walk{kept: &accepted{}, files: Files{}}
	for i, data := range r.Roots {
		root, err := decodeRoot(data)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			err = w.firstRoot(data)
		} else {
			err = w.nextRoot(data)
		}
		if err != nil {
			return nil, err
		}
		roots = append(roots, root)
	}
	return roots, nil
}

// parseTargets reads what is there and what shall be.
func (r *Request) parseTargets(p *parsed) error {
	var before content
	var oldTargets *targetsFile
	if data, ok := r.Before[RoleTargets]; ok {
		var err error
		if oldTargets, err = decodeTargets(data); err != nil {
			return err
		}
		oldChannels, err := decodeChannels(r.Before[RoleChannels])
		if err != nil {
			return err
		}
		p.targets, p.channels = oldTargets, oldChannels
		was, err := readContent(oldTargets, oldChannels)
		if err != nil {
			return err
		}
		// What a key signed that was revoked since is compared with nothing: the
		// summary then lists everything, because everything must be looked at.
		d := oldTargets.Signed.Delegations
		if enough(oldTargets, p.root, RoleTargets) && len(signers(oldChannels, d.Roles[0].KeyIDs, d.Keys)) >= d.Roles[0].Threshold {
			before = was
		} else {
			oldTargets = nil
		}
	}
	var err error
	if data, ok := r.Sign[RoleTargets]; ok {
		p.signTargets = true
		if p.targets, err = decodeTargets(data); err != nil {
			return err
		}
	}
	if data, ok := r.Sign[RoleChannels]; ok {
		p.signChannels = true
		if p.channels, err = decodeChannels(data); err != nil {
			return err
		}
	}
	if p.targets == nil || p.channels == nil || !p.signTargets && !p.signChannels {
		return errors.New("it asks for nothing that is whole")
	}
	if p.summary, err = describe(before, oldTargets, p.targets, p.channels); err != nil {
		return err
	}
	for _, f := range []struct {
		role string
		ask  bool
		file *targetsFile
	}{{RoleTargets, p.signTargets, p.targets}, {RoleChannels, p.signChannels, p.channels}} {
		if f.ask {
			p.summary = append(p.summary, fmt.Sprintf("%s %d is good until %s", f.role, f.file.Signed.Version, f.file.Signed.Expires.UTC().Format(time.DateOnly)))
		}
	}
	return nil
}

// SignRequest signs a request with those of the keys in the keyring that it asks
// for. The keyring's own root decides whose request it is: one that does not
// follow from it, or that is behind it, is refused.
func SignRequest(ctx context.Context, r *Request, keys *Keyring) error {
	p, err := r.verified(keys)
	if err != nil {
		return err
	}
	if p.next != nil {
		if err := signRoot(ctx, p.root, p.next, keys); err != nil {
			return err
		}
		r.Sign[RoleRoot], err = encode(p.next)
		return err
	}
	if p.signTargets {
		ids, threshold := rootRole(p.root, RoleTargets)
		if err := sign(ctx, p.targets, ids, p.root.Signed.Keys, threshold, keys); err != nil {
			return err
		}
		if r.Sign[RoleTargets], err = encode(p.targets); err != nil {
			return err
		}
	}
	if p.signChannels {
		d := p.targets.Signed.Delegations
		if err := sign(ctx, p.channels, d.Roles[0].KeyIDs, d.Keys, d.Roles[0].Threshold, keys); err != nil {
			return err
		}
		r.Sign[RoleChannels], err = encode(p.channels)
	}
	return err
}

// verified parses a request and compares it with what the keyring knows.
func (r *Request) verified(keys *Keyring) (*parsed, error) {
	p, err := r.parse()
	if err != nil {
		return nil, err
	}
	if !slices.Equal(p.summary, r.Summary) {
		return nil, untrusted("the request says it %q, and its files say %q", strings.Join(r.Summary, ", "), strings.Join(p.summary, ", "))
	}
	mine := keys.root.Signed.Version
	if p.root.Signed.Version < mine {
		return nil, fmt.Errorf("the request was made under root %d, and %q knows root %d: make it again", p.root.Signed.Version, keys.dir, mine)
	}
	if slices.ContainsFunc(p.roots, func(root *rootFile) bool { return sameContent(root.Signed, keys.root.Signed) }) {
		return p, nil
	}
	return nil, untrusted("the request does not follow from the root in %q: it belongs to other keys", keys.dir)
}

// Missing says what a request still needs; nothing when it can be taken back.
func (r *Request) Missing() ([]string, error) {
	p, err := r.parse()
	if err != nil {
		return nil, err
	}
	if p.next != nil {
		return missingRoot(p.root, p.next), nil
	}
	var missing []string
	check := func(role string, file *targetsFile, keys map[string]*metadata.Key, ids []string, threshold int) {
		if got := len(signers(file, ids, keys)); got < threshold {
			missing = append(missing, fmt.Sprintf("%s %d has %d signatures and needs %d", role, file.Signed.Version, got, threshold))
		}
	}
	if p.signTargets {
		ids, threshold := rootRole(p.root, RoleTargets)
		check(RoleTargets, p.targets, p.root.Signed.Keys, ids, threshold)
	}
	if p.signChannels {
		d := p.targets.Signed.Delegations
		check(RoleChannels, p.channels, d.Keys, d.Roles[0].KeyIDs, d.Roles[0].Threshold)
	}
	return missing, nil
}

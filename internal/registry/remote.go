package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	orasregistry "oras.land/oras-go/v2/registry"
	orasremote "oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// remote is a repository in a registry. Reading is done here, over the auth
// client of oras-go, because ranges, resumption and limits are not something
// oras-go has; writing and listing are oras-go's.
type remote struct {
	ref     orasregistry.Reference
	scheme  string
	client  *auth.Client
	oras    *orasremote.Repository
	options Options
}

func newRemote(ref orasregistry.Reference, scheme string, o Options) (*remote, error) {
	credential, err := credentialFunc(o.CredentialFiles)
	if err != nil {
		return nil, err
	}
	client := &auth.Client{
		Client:     newHTTPClient(scheme, o),
		Header:     http.Header{"User-Agent": {o.UserAgent}},
		Cache:      auth.NewCache(),
		ClientID:   "ashlar",
		Credential: credential,
	}
	r := &remote{ref: ref, scheme: scheme, client: client, options: o}
	r.oras = &orasremote.Repository{
		Client:           client,
		Reference:        ref,
		PlainHTTP:        scheme == "http",
		MaxMetadataBytes: maxManifest,
		// Where the registry has no referrers API, oras-go keeps the list under
		// a tag. Old versions of that list stay: many registries refuse to delete.
		SkipReferrersGC: true,
	}
	return r, nil
}

// credentialFunc looks a host up in files, in their order.
func credentialFunc(files []string) (auth.CredentialFunc, error) {
	var stores []credentials.Store
	for _, name := range files {
		store, err := credentials.NewFileStore(name) // a missing file is an empty one
		if err != nil {
			return nil, fmt.Errorf("reading credentials %q: %w", name, err)
		}
		stores = append(stores, store)
	}
	if len(stores) == 0 {
		return nil, nil
	}
	return credentials.Credential(credentials.NewStoreWithFallbacks(stores[0], stores[1:]...)), nil
}

// get asks for a path below the repository. Any answer but a wanted one is an error.
func (r *remote) get(ctx context.Context, method, path string, header http.Header, want ...int) (*http.Response, error) {
	u := url.URL{Scheme: r.scheme, Host: r.ref.Host(), Path: "/v2/" + r.ref.Repository + path}
	ctx = auth.AppendRepositoryScope(ctx, r.ref, auth.ActionPull)
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, r.classify(err)
	}
	if slices.Contains(want, resp.StatusCode) {
		return resp, nil
	}
	defer resp.Body.Close()
	err = statusError(resp)
	if resp.StatusCode == http.StatusUnauthorized {
		err = &LoginError{Host: r.ref.Registry, err: err}
	}
	return nil, err
}

// A LoginError says that a registry wants to know who asks, or does not like the answer.
type LoginError struct {
	Host string
	err  error
}

func (e *LoginError) Error() string { return e.err.Error() }
func (e *LoginError) Unwrap() error { return e.err }

// Hint says how to give a password.
func (e *LoginError) Hint() string { return "podman login " + e.Host }

// classify marks the errors after which another attempt makes sense, and those
// that a password would cure.
func (r *remote) classify(err error) error {
	var (
		status  *errcode.ErrorResponse
		netErr  *url.Error // every failure below HTTP
		certErr *tls.CertificateVerificationError
	)
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return &LoginError{Host: r.ref.Registry, err: fmt.Errorf("the registry wants a password, and none is known for %q", r.ref.Registry)}
	case errors.As(err, &status) && status.StatusCode == http.StatusUnauthorized:
		return &LoginError{Host: r.ref.Registry, err: err}
	case errors.As(err, &status):
		return statusClass(err, status.StatusCode, "")
	case errors.Is(err, http.ErrSchemeMismatch):
		return &PlainHTTPError{Name: r.ref.Registry + "/" + r.ref.Repository, err: err}
	case errors.As(err, &certErr), errors.Is(err, errRedirect), errors.Is(err, errUnprotected):
		return &unreachable{err}
	case errors.As(err, &netErr) && netErr.Err != nil:
		return &transient{err: netErr.Err}
	}
	return err
}

// A PlainHTTPError says that a registry answers to TLS with plain HTTP.
type PlainHTTPError struct {
	Name string
	err  error
}

func (e *PlainHTTPError) Error() string { return e.err.Error() }
func (e *PlainHTTPError) Unwrap() error { return e.err }

// Hint says how to go without TLS.
func (e *PlainHTTPError) Hint() string {
	return fmt.Sprintf("if it may be reached without TLS, name it http://%s", e.Name)
}

func statusClass(err error, status int, retryAfter string) error {
	switch {
	case status == http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500 && status != http.StatusNotImplemented:
		seconds, _ := strconv.Atoi(retryAfter) // a date is taken as no wish
		return &transient{err: err, after: time.Duration(max(0, min(seconds, 3600))) * time.Second}
	}
	return &unreachable{err}
}

// statusError makes an error of an answer that was not wanted, with the server's words if it has any.
func statusError(resp *http.Response) error {
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxError))
	words := strings.Join(strings.Fields(string(said)), " ")
	if len(words) > 200 {
		words = words[:200] + "…"
	}
	err := fmt.Errorf("the server answers %q to %s %s", resp.Status, resp.Request.Method, resp.Request.URL.Path)
	if words != "" {
		err = fmt.Errorf("%w: %q", err, words)
	}
	return statusClass(err, resp.StatusCode, resp.Header.Get("Retry-After"))
}

// transfers counts the attempts at a blob.
func (r *remote) transfers() retrier {
	return retrier{limit: r.options.Retries, backoff: r.options.Backoff}
}

// small makes a small request: do, again where that makes sense, for no longer
// than Options.Request in all.
func (r *remote) small(ctx context.Context, do func(ctx context.Context) error) error {
	limited, cancel := withLimit(ctx, r.options.Request)
	defer cancel()
	var before error // what went wrong while there was time
	retry := retrier{limit: min(r.options.Retries, smallRetries), backoff: r.options.Backoff}
	err := retry.try(limited, func() error {
		err := do(limited)
		if limited.Err() == nil {
			before = err
		}
		return err
	})
	if err != nil && before != nil && limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w; before that: %w", err, before)
	}
	return err
}

// withLimit ends ctx after a time that a small request cannot need.
func withLimit(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, &unreachable{fmt.Errorf("the server takes longer than %s for a small request", limit)})
}

// try calls do until it works or another attempt makes no sense.
func (retry retrier) try(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil {
			return nil
		}
		if err := retry.again(ctx, err); err != nil {
			return err
		}
	}
}

func (r *remote) checkReference(reference string) error {
	ref := r.ref
	ref.Reference = reference
	if reference == "" {
		return errors.New("it has neither a tag nor a digest")
	}
	return ref.ValidateReference()
}

func (r *remote) manifest(ctx context.Context, reference string) (desc ocispec.Descriptor, body []byte, err error) {
	if err := r.checkReference(reference); err != nil {
		return desc, nil, err
	}
	err = r.small(ctx, func(ctx context.Context) error {
		resp, err := r.get(ctx, http.MethodGet, "/manifests/"+reference, http.Header{"Accept": {acceptManifests}}, http.StatusOK)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if body, err = io.ReadAll(io.LimitReader(resp.Body, maxManifest+1)); err != nil {
			return &transient{err: fmt.Errorf("reading the server's answer: %w", err)}
		}
		if len(body) > maxManifest {
			return fmt.Errorf("it is larger than %d bytes", maxManifest)
		}
		desc = ocispec.Descriptor{MediaType: mediaType(resp.Header, body), Digest: digest.FromBytes(body), Size: int64(len(body))}
		for _, said := range []string{resp.Header.Get("Docker-Content-Digest"), digestOnly(reference)} {
			if said != "" && said != desc.Digest.String() {
				return fmt.Errorf("it is damaged: its digest is %s and should be %.80q", desc.Digest, said)
			}
		}
		return nil
	})
	return desc, body, err
}

// resolve asks with HEAD; a server that does not say enough is asked for the whole.
func (r *remote) resolve(ctx context.Context, reference string) (desc ocispec.Descriptor, err error) {
	if err := r.checkReference(reference); err != nil {
		return desc, err
	}
	enough := false
	err = r.small(ctx, func(ctx context.Context) error {
		resp, err := r.get(ctx, http.MethodHead, "/manifests/"+reference, http.Header{"Accept": {acceptManifests}}, http.StatusOK)
		if err != nil {
			return err
		}
		resp.Body.Close()
		desc = ocispec.Descriptor{
			MediaType: mediaType(resp.Header, nil),
			Digest:    digest.Digest(resp.Header.Get("Docker-Content-Digest")),
			Size:      resp.ContentLength,
		}
		enough = checkDescriptor(desc) == nil && isManifest(desc.MediaType) && desc.Size <= maxManifest
		if want := digestOnly(reference); enough && want != "" && desc.Digest.String() != want {
			return fmt.Errorf("the server says that its digest is %s", desc.Digest)
		}
		return nil
	})
	if err == nil && !enough {
		desc, _, err = r.manifest(ctx, reference)
	}
	return desc, err
}

func (r *remote) exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	path, header := "/blobs/", http.Header{}
	if isManifest(desc.MediaType) {
		path, header = "/manifests/", http.Header{"Accept": {acceptManifests}}
	}
	err := r.small(ctx, func(ctx context.Context) error {
		resp, err := r.get(ctx, http.MethodHead, path+desc.Digest.String(), header, http.StatusOK)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (r *remote) tags(ctx context.Context) (tags []string, err error) {
	err = r.small(ctx, func(ctx context.Context) error {
		tags = nil
		pages := 0
		return r.classify(r.oras.Tags(ctx, "", func(page []string) error {
			if tags = append(tags, page...); len(tags) > maxTags {
				return fmt.Errorf("there are more than %d", maxTags)
			}
			if pages++; pages > maxTagPages {
				return fmt.Errorf("there are more than %d pages of them", maxTagPages)
			}
			return nil
		}))
	})
	return tags, err
}

func (r *remote) putBlob(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	return r.transfers().try(ctx, func() error {
		rc, err := open()
		if err != nil {
			return err
		}
		defer rc.Close()
		return r.classify(r.oras.Blobs().Push(ctx, desc, rc))
	})
}

func (r *remote) putManifest(ctx context.Context, desc ocispec.Descriptor, body []byte, tag string) error {
	return r.small(ctx, func(ctx context.Context) error {
		if tag == "" {
			return r.classify(r.oras.Manifests().Push(ctx, desc, bytes.NewReader(body)))
		}
		return r.classify(r.oras.Manifests().PushReference(ctx, desc, bytes.NewReader(body), tag))
	})
}

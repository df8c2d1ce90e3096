package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// blob streams [off, off+n) and goes on after a cut.
func (r *remote) blob(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	whole := off == 0 && n == desc.Size
	return &stream{
		ctx: ctx,
		pos: off,
		end: off + n,
		open: func(ctx context.Context, off, n int64) (*http.Response, error) {
			if whole && off == 0 {
				return r.getWhole(ctx, desc)
			}
			return r.getRange(ctx, desc, off, n)
		},
		retry: r.transfers(),
	}, nil
}

func blobPath(desc ocispec.Descriptor) string { return "/blobs/" + desc.Digest.String() }

func (r *remote) getWhole(ctx context.Context, desc ocispec.Descriptor) (*http.Response, error) {
	resp, err := r.get(ctx, http.MethodGet, blobPath(desc), nil, http.StatusOK)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength >= 0 && resp.ContentLength != desc.Size {
		resp.Body.Close()
		return nil, fmt.Errorf("the server says that it has %d bytes, and it should have %d", resp.ContentLength, desc.Size)
	}
	return resp, nil
}

// getRange asks for n bytes from off, and takes no answer but exactly those. A
// server that knows no ranges would send the whole for every one of them.
func (r *remote) getRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (*http.Response, error) {
	header := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", off, off+n-1)}}
	resp, err := r.get(ctx, http.MethodGet, blobPath(desc), header, http.StatusPartialContent, http.StatusOK)
	if err != nil {
		return nil, err
	}
	if err := checkRange(resp, off, n, desc.Size); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// checkRange checks an answer to a request for n bytes from off of size.
func checkRange(resp *http.Response, off, n, size int64) error {
	if resp.StatusCode == http.StatusOK {
		return fmt.Errorf("the server does not support range requests: it answers bytes %d+%d with the whole", off, n)
	}
	said := resp.Header.Get("Content-Range")
	first, last, total, ok := parseContentRange(said)
	if !ok || first != off || last != off+n-1 || total != -1 && total != size {
		return fmt.Errorf("the server answers bytes %d-%d of %d with the range %.80q", off, off+n-1, size, said)
	}
	if resp.ContentLength >= 0 && resp.ContentLength != n {
		return fmt.Errorf("the server announces %d bytes for a range of %d", resp.ContentLength, n)
	}
	return nil
}

// parseContentRange reads "bytes FIRST-LAST/TOTAL" (RFC 9110, 14.4); total is -1 for "*".
func parseContentRange(s string) (first, last, total int64, ok bool) {
	span, ok := strings.CutPrefix(s, "bytes ")
	if !ok {
		return 0, 0, 0, false
	}
	span, size, ok := strings.Cut(span, "/")
	if !ok {
		return 0, 0, 0, false
	}
	a, b, ok := strings.Cut(span, "-")
	if !ok {
		return 0, 0, 0, false
	}
	first, ok1 := parseDecimal(a)
	last, ok2 := parseDecimal(b)
	total, ok3 := int64(-1), true
	if size != "*" {
		total, ok3 = parseDecimal(size)
	}
	return first, last, total, ok1 && ok2 && ok3
}

// parseDecimal takes digits only, no sign.
func parseDecimal(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil
}

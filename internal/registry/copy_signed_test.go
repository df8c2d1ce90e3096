package registry

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCopySigned: all tags, the signatures last; never over what is newer or
// somebody else's.
func TestCopySigned(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	src := f.layout.Repository()
	mirror := openTest(t, startDockerRegistry(t)+"/mirror/server")
	if _, err := CopySigned(ctx, src, mirror, nil); !errors.Is(err, ErrNoTrust) {
		t.Errorf("a copy of what is not signed: %v", err)
	}
	must(t, src.WriteTrust(ctx, metadata(1), nil))
	first, err := CopySigned(ctx, src, mirror, nil)
	must(t, err)
	checkTrust(t, mirror, metadata(1))
	f.checkRelease(t, mirror, "stable")
	f.checkRelease(t, mirror, "1.0.0")
	again, err := CopySigned(ctx, src, mirror, nil)
	must(t, err)
	if first.Blobs == 0 || again.Blobs != 0 || again.Bytes != 0 || again.Descriptor.Digest != first.Descriptor.Digest {
		t.Errorf("first %+v, again %+v", first, again)
	}
	tags, err := mirror.Tags(ctx)
	must(t, err)
	if !slices.Contains(tags, TagTrust) {
		t.Errorf("tags %q", tags)
	}

	// From the mirror to a directory, and then not back in time.
	back, _, err := Open("oci:"+filepath.Join(t.TempDir(), "back"), Options{Create: true})
	must(t, err)
	_, err = CopySigned(ctx, mirror, back, nil)
	must(t, err)
	before, err := back.ReadTrust(ctx)
	must(t, err)
	must(t, back.WriteTrust(ctx, metadata(2), before))
	var refused *RefusedError
	if _, err := CopySigned(ctx, mirror, back, nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "newer, or another publisher's") {
		t.Errorf("over what is newer: %v", err)
	}
	_, err = CopySigned(ctx, back, mirror, nil)
	must(t, err)
	checkTrust(t, mirror, metadata(2), metadata(1)["1.root.json"])
}

// TestPublishLeavesSignatures: those of the place that a release comes from are
// not taken along.
func TestPublishLeavesSignatures(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	must(t, f.layout.Repository().WriteTrust(ctx, metadata(1), nil))
	to, _, err := Open("oci:"+filepath.Join(t.TempDir(), "to"), Options{Create: true})
	must(t, err)
	plan, err := PlanPublish(ctx, PublishOptions{From: f.layout.Repository(), To: to, Tag: "1.0.0"})
	must(t, err)
	_, err = plan.Apply(ctx, nil)
	must(t, err)
	if _, err := to.ReadTrust(ctx); !errors.Is(err, ErrNoTrust) {
		t.Errorf("the signatures came along: %v", err)
	}
}

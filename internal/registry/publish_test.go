package registry

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestPublishing(t *testing.T) {
	ctx := context.Background()
	to, _, err := Open("oci:"+filepath.Join(t.TempDir(), "to"), Options{Create: true})
	must(t, err)
	v1 := newFixture(t, "1.0.0", 1000).written(t, "", "stable")
	v2 := newFixture(t, "1.10.0", 1000).written(t, "")
	plan := func(f *fixture, change func(o *PublishOptions)) (*PublishPlan, error) {
		o := PublishOptions{From: f.layout.Repository(), To: to, Channel: "stable"}
		if change != nil {
			change(&o)
		}
		return PlanPublish(ctx, o)
	}
	publish := func(f *fixture, change func(o *PublishOptions)) *PublishPlan {
		t.Helper()
		p, err := plan(f, change)
		must(t, err)
		_, err = p.Apply(ctx, nil)
		must(t, err)
		return p
	}
	names := func(want *fixture, tag string) {
		t.Helper()
		if desc, err := to.Resolve(ctx, tag); err != nil || desc.Digest != want.index.Digest {
			t.Errorf("%q names %s, %v; want %s", tag, desc.Digest, err, want.index.Digest)
		}
	}

	publish(v1, nil)
	names(v1, "stable")
	if p := publish(v2, nil); p.Before != "1.0.0" || !p.Moves { // 1.10 is newer than 1.0, as versions go
		t.Errorf("plan %+v", p)
	}
	names(v2, "stable")
	names(v1, "1.0.0")
	if p := publish(v2, nil); p.Moves {
		t.Errorf("published twice: %+v", p)
	}

	var refused *RefusedError
	if _, err := plan(v1, nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "version 1.0.0 is older than 1.10.0") ||
		!strings.Contains(refused.Hint(), "--allow-older") {
		t.Errorf("an older version: %v", err)
	}
	names(v2, "stable")
	publish(v1, func(o *PublishOptions) { o.AllowOlder = true })
	names(v1, "stable")
	publish(v1, func(o *PublishOptions) { o.Channel = "testing" })
	names(v1, "testing")

	changed := newFixture(t, "1.0.0", 2000).written(t, "")
	if _, err := plan(changed, func(o *PublishOptions) { o.AllowOlder = true }); !errors.As(err, &refused) || !strings.Contains(err.Error(), "other content") {
		t.Errorf("other content for a version: %v", err)
	}
	other := newFixture(t, "3.0.0", 1000)
	other.doc.Name, other.doc.ID = "desktop", "desktop-3.0.0"
	other.written(t, "")
	if _, err := plan(other, nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), `of the image "server"`) {
		t.Errorf("another image: %v", err)
	}
	for _, channel := range []string{"1.0.0", "Stable", "../x"} {
		if _, err := plan(v2, func(o *PublishOptions) { o.Channel = channel }); err == nil {
			t.Errorf("channel %q was accepted", channel)
		}
	}

	// Two releases in one directory: one must be named.
	both := newFixture(t, "2.0.0", 1000).written(t, v1.dir)
	if _, err := plan(both, nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "Its tags are 1.0.0, 2.0.0") {
		t.Errorf("two releases: %v", err)
	}
	publish(both, func(o *PublishOptions) { o.Tag = "2.0.0" })
	names(both, "stable")

	empty, err := CreateLayout(filepath.Join(t.TempDir(), "empty"))
	must(t, err)
	if _, err := PlanPublish(ctx, PublishOptions{From: empty.Repository(), To: to}); err == nil || !strings.Contains(err.Error(), "no release") {
		t.Errorf("an empty directory: %v", err)
	}
}

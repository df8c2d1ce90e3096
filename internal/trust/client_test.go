package trust

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

var ctx = context.Background()

// mustRefresh refreshes a machine.
func mustRefresh(t *testing.T, c *Client, src Source) *View {
	t.Helper()
	v, err := c.Refresh(ctx, src)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMachineFollowsAChannel(t *testing.T) {
	p := newPublisher(t)
	m := p.machine()
	if _, err := m.Accepted(); !errors.Is(err, ErrNothingAccepted) {
		t.Errorf("a new machine: %v", err)
	}
	v := mustRefresh(t, m, p.release("1.0.0"))
	if v.Unchanged || v.Damage != nil {
		t.Errorf("first: %+v", v)
	}
	r, err := v.Channel("stable")
	if err != nil {
		t.Fatal(err)
	}
	doc := document(t, server, "1.0.0")
	want := Release{Version: "1.0.0", DocumentDigest: digest.FromBytes(doc), Length: int64(len(doc)), Artifact: artifact("1.0.0")}
	if r != want {
		t.Errorf("stable is %+v, want %+v", r, want)
	}
	if v := mustRefresh(t, m, p.files); !v.Unchanged {
		t.Error("the same again is new")
	}
	if v = mustRefresh(t, m, p.release("1.1.0")); v.Unchanged {
		t.Error("something new is not")
	}
	accepted, err := m.Accepted()
	if err != nil {
		t.Fatal(err)
	}
	if r, err := accepted.Channel("stable"); err != nil || r.Version != "1.1.0" {
		t.Errorf("accepted: %v, %v", r, err)
	}
	if list := accepted.Releases(); len(list) != 2 || list[0].Version != "1.1.0" {
		t.Errorf("releases: %v", list)
	}
	if _, err := accepted.Vouches(want.DocumentDigest); err != nil {
		t.Error(err)
	}
	if _, err := accepted.Vouches(digest.FromString("something else")); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if _, err := accepted.Channel("testing"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if got := len(accepted.Signers(RoleRoot)); got != 3 {
		t.Errorf("%d holders signed", got)
	}
	if e := accepted.Expires(); !e[RoleTimestamp].Equal(today.Add(7*24*time.Hour)) || len(e) != 5 {
		t.Errorf("expires: %v", e)
	}
}

// An update brings an image with a newer root than the first one: the machine's
// memory goes on, and so it does when the machine goes back to the old image.
func TestImageBringsANewerRoot(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0")
	p.rotate(func(c *RootChange) error { return c.SetThreshold(3) })
	files := p.release("1.1.0")
	m := p.machine()
	v := mustRefresh(t, m, files)
	if string(v.Root()) != string(files["2.root.json"]) {
		t.Error("the newest root is another one")
	}
	m.Root = v.Root()
	v = mustRefresh(t, m, files)
	if !v.Unchanged || v.Damage != nil || string(v.Root()) != string(m.Root) {
		t.Errorf("unchanged is %v, damage is %v", v.Unchanged, v.Damage)
	}
	// It still notices what is new and what is old.
	mustRefresh(t, m, p.release("1.2.0"))
	refused(t, m, files, ErrRollback, "this repository shows timestamp 2, and this machine accepted 3 before: somebody shows it the past")
	files = p.files
	// And the way back, to an image that knows the first root only.
	m.Root = p.keys.roots[1]
	for range 2 {
		if v, err := m.Accepted(); err != nil || v.Signed()[0].Version != 2 {
			t.Errorf("%v", err)
		}
		if v := mustRefresh(t, m, files); !v.Unchanged || v.Damage != nil {
			t.Errorf("unchanged is %v, damage is %v", v.Unchanged, v.Damage)
		}
	}
}

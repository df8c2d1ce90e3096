package cli

import (
	"testing"

	"github.com/ashlar-os/ashlar/internal/machine/update/updatetest"
)

// TestNewestRelease: a layout that is signed, as one that machines follow is, can be
// built into.
func TestNewestRelease(t *testing.T) {
	site := updatetest.NewSite(t)
	for _, version := range []string{"1.9.0", "1.10.0"} {
		site.Publish(updatetest.Spec{Name: "server", Version: version})
	}
	doc, err := newestRelease(t.Context(), site.Dir, "server")
	if err != nil || doc == nil || doc.Version != "1.10.0" {
		t.Errorf("%+v, %v", doc, err)
	}
	if doc, err = newestRelease(t.Context(), site.Dir, "other"); doc != nil || err != nil {
		t.Errorf("of another name: %+v, %v", doc, err)
	}
}

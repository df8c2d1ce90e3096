package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Defaults of base "debian".
const (
	DefaultSuite    = "trixie"
	DefaultMirror   = "http://deb.debian.org/debian"
	snapshotArchive = "http://snapshot.debian.org/archive/debian/"
)

func (r *Recipe) setDefaults() {
	def := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	def(&r.Version, "0")
	def(&r.Modules, ModulesUncompressed)
	def(&r.Boot.Foreign, ForeignRefuse)
	def(&r.Base.Architecture, "amd64")
	if r.Base.Kind == BaseDebian {
		def(&r.Base.Suite, DefaultSuite)
		if r.Base.Snapshot != "" {
			def(&r.Base.Mirror, snapshotArchive+r.Base.Snapshot+"/")
		}
		def(&r.Base.Mirror, DefaultMirror)
		if len(r.Base.Components) == 0 {
			r.Base.Components = []string{"main"}
		}
	}
	if r.Update.Repository != "" {
		def(&r.Update.Channel, "stable")
	}
	def(&r.Update.Interval, "6h")
}

// complete checks what only the merged recipe can tell.
func (r *Recipe) complete(path string) error {
	switch {
	case r.Name == "":
		return fmt.Errorf("%q: the recipe has no name (name = \"…\")", path)
	case r.Base.Kind == "":
		return fmt.Errorf("%q: the recipe has no base ([base] kind = \"debian\", \"oci\" or \"directory\")", path)
	case r.Base.Kind == BaseOCI && r.Base.Image == "":
		return fmt.Errorf("%q: base \"oci\" needs base.image", path)
	case r.Base.Kind == BaseDirectory && r.Base.Path == "":
		return fmt.Errorf("%q: base \"directory\" needs base.path", path)
	case r.Base.Kind != BaseDebian && len(r.Base.Packages) > 0:
		return fmt.Errorf("%q: base.packages is for base \"debian\", not %q", path, r.Base.Kind)
	case r.Base.Kind != BaseDebian && r.Kernel.Package != "":
		return fmt.Errorf("%q: kernel.package is for base \"debian\", not %q", path, r.Base.Kind)
	case r.Base.Kind != BaseOCI && r.Base.Image != "":
		return fmt.Errorf("%q: base.image is for base \"oci\", not %q", path, r.Base.Kind)
	case r.Base.Kind != BaseDirectory && r.Base.Path != "":
		return fmt.Errorf("%q: base.path is for base \"directory\", not %q", path, r.Base.Kind)
	}
	if r.Update.Repository != "" && r.Trust.Root == "" {
		return fmt.Errorf("%q: the recipe has update.repository and no trust.root: machines take nothing that is not signed, "+
			"and would know no keys (ashlar keys init makes some; [trust] root = \"keys/root.json\")", path)
	}
	return nil
}

// InputsDigest is a digest of everything in r that decides which packages or
// which base image a build takes, "sha256:…". A lock carries it, so that a
// lock that no longer fits its recipe is noticed.
func (r *Recipe) InputsDigest() string {
	inputs := struct {
		Base   Base
		Kernel string
	}{r.Base, r.Kernel.Package}
	// Which mirror is near, and where the publisher keeps keys and
	// directories, is no part of it.
	inputs.Base.Mirror, inputs.Base.Keys, inputs.Base.Path = "", "", ""
	inputs.Base.Repositories = append([]Repository(nil), r.Base.Repositories...)
	for i := range inputs.Base.Repositories {
		inputs.Base.Repositories[i].Keys = ""
	}
	text, err := json.Marshal(inputs)
	if err != nil {
		panic(err) // strings, lists and pointers to bool only
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}

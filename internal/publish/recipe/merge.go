package recipe

import (
	"path/filepath"
	"slices"
)

// merge puts other over r: single values replace, lists append. In the lists
// whose entries have a name (files by path, users, groups) an entry of other
// replaces the one of the same name.
func (r *Recipe) merge(other *Recipe) {
	over(&r.Name, other.Name)
	over(&r.Version, other.Version)
	over(&r.Modules, other.Modules)
	r.Exclude = appendNew(r.Exclude, other.Exclude)
	r.Base.merge(&other.Base)

	over(&r.Kernel.Package, other.Kernel.Package)
	r.Kernel.Arguments = append(r.Kernel.Arguments, other.Kernel.Arguments...)
	over(&r.Boot.Foreign, other.Boot.Foreign)
	over(&r.Update.Repository, other.Update.Repository)
	over(&r.Update.Channel, other.Update.Channel)
	over(&r.Update.Interval, other.Update.Interval)
	over(&r.Trust.Root, other.Trust.Root)
	r.Health.merge(&other.Health)

	r.Services.Enabled = appendNew(r.Services.Enabled, other.Services.Enabled)
	r.Services.Disabled = appendNew(r.Services.Disabled, other.Services.Disabled)
	r.Services.Masked = appendNew(r.Services.Masked, other.Services.Masked)
	r.Files = replaceNamed(r.Files, other.Files, func(f File) string { return f.Path })
	r.Users = replaceNamed(r.Users, other.Users, func(u User) string { return u.Name })
	r.Groups = replaceNamed(r.Groups, other.Groups, func(g Group) string { return g.Name })
	r.Run = append(r.Run, other.Run...)
}

func (h *Health) merge(other *Health) {
	if other.Units != nil {
		// An empty list is a choice too: no unit is required.
		h.Units = appendNew(append([]string{}, h.Units...), other.Units)
	}
	overPtr(&h.Network, other.Network)
	h.Checks = replaceNamed(h.Checks, other.Checks, filepath.Base)
	overPtr(&h.Timeout, other.Timeout)
	overPtr(&h.Watchdog, other.Watchdog)
}

func (b *Base) merge(other *Base) {
	over(&b.Kind, other.Kind)
	over(&b.Suite, other.Suite)
	over(&b.Mirror, other.Mirror)
	over(&b.Snapshot, other.Snapshot)
	over(&b.Keys, other.Keys)
	over(&b.Architecture, other.Architecture)
	over(&b.Image, other.Image)
	over(&b.Path, other.Path)
	overPtr(&b.Recommends, other.Recommends)
	b.Components = appendNew(b.Components, other.Components)
	b.Packages = appendNew(b.Packages, other.Packages)
	b.Repositories = append(b.Repositories, other.Repositories...)
}

func over(dst *string, src string) {
	if src != "" {
		*dst = src
	}
}

func overPtr[T any](dst **T, src *T) {
	if src != nil {
		*dst = src
	}
}

// appendNew appends what is not there yet.
func appendNew(list, more []string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

func replaceNamed[T any](list, more []T, name func(T) string) []T {
	for _, m := range more {
		if i := slices.IndexFunc(list, func(t T) bool { return name(t) == name(m) }); i >= 0 {
			list[i] = m
		} else {
			list = append(list, m)
		}
	}
	return list
}

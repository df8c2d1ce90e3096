package compose

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/release"
)

// CompareIDs refuses a release whose ids contradict those of the one before.
// Files in /var and /etc of a machine belong to ids, so a name that gets
// another id loses its files, and an id that gets another name gives them to a
// stranger. A name may disappear; a new name may appear with a new id.
func CompareIDs(previous, now *release.Document) error {
	offenders := append(compareIDs("user", previous.Users, now.Users), compareIDs("group", previous.Groups, now.Groups)...)
	if len(offenders) == 0 {
		return nil
	}
	return &idError{previous.ID, offenders}
}

type idError struct {
	release   string // the previous one
	offenders []string
}

func (e *idError) Error() string {
	return fmt.Sprintf("ids may not differ from those of release %q, because files on machines belong to ids: %s",
		e.release, strings.Join(e.offenders, "; "))
}

// Hint says how to keep the ids.
func (e *idError) Hint() string {
	return "fix these ids in the recipe to what they were, or build from the previous lock"
}

func compareIDs(kind string, previous, now map[string]uint32) (offenders []string) {
	nowNames := byID(now)
	for _, name := range slices.Sorted(maps.Keys(previous)) {
		was := previous[name]
		is, stays := now[name]
		if stays && is != was {
			offenders = append(offenders, fmt.Sprintf("%s %q had id %d and has %d", kind, name, was, is))
		}
		if stays && is == was {
			continue // whoever else has the id shares it, and does not inherit it
		}
		for _, other := range nowNames[was] {
			if id, known := previous[other]; !known || id != was {
				offenders = append(offenders, fmt.Sprintf("%s id %d belonged to %q and belongs to %q", kind, was, name, other))
			}
		}
	}
	return offenders
}

func byID(ids map[string]uint32) map[uint32][]string {
	names := make(map[uint32][]string)
	for _, name := range slices.Sorted(maps.Keys(ids)) {
		names[ids[name]] = append(names[ids[name]], name)
	}
	return names
}

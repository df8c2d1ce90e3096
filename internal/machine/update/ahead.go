package update

import (
	"context"
	"errors"
	"fmt"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// Ahead is room for an update that nobody has begun: what it takes when it has
// nothing in common with what is here, which is mostly far more than it will be, and
// what is free. What an update takes exactly is known to a [StagePlan].
type Ahead struct {
	Need Room `json:"need"` // at most
	Free Room `json:"free"`

	needInodes, freeInodes int64 // free: -1 where there is no limit
}

// Short lists what may not be enough, as sentences; none where any update fits.
func (a *Ahead) Short() []string {
	const mb = 1e6
	list := []string{}
	add := func(where, what string, need, free int64) {
		if need > free {
			list = append(list, fmt.Sprintf("%s has %d %s free, and an update may need %d", where, free, what, need))
		}
	}
	add("the store", "MB", (a.Need.Store+mb-1)/mb, a.Free.Store/mb)
	if a.freeInodes >= 0 {
		add("the store", "inodes", a.needInodes, a.freeInodes)
	}
	add("the ESP", "MB", (a.Need.ESP+mb-1)/mb, a.Free.ESP/mb)
	return list
}

// LookAhead says whether another release of the size of what runs would fit, long
// before there is one.
func (m *Machine) LookAhead(s *State) (*Ahead, error) {
	running := s.With(Running)
	if running == nil {
		return nil, errors.New("nothing here says how large a release is: no deployment is running")
	}
	doc, err := m.Store.Document(&running.Deployment)
	if err != nil {
		return nil, err
	}
	return m.ahead(doc)
}

// RoomFor says how much room the release of a finding takes at most.
func (m *Machine) RoomFor(ctx context.Context, f *Finding) (*Ahead, error) {
	doc, err := f.document(ctx)
	if err != nil {
		return nil, err
	}
	return m.ahead(doc)
}

func (m *Machine) ahead(doc *release.Document) (*Ahead, error) {
	space, onESP, err := m.free()
	if err != nil {
		return nil, err
	}
	root := doc.Root()
	// Of each object, half a block is lost on average, and one goes to its seal.
	perObject := space.Block + space.Block/2
	return &Ahead{
		Need: Room{
			Store: space.Need(root.Size, root.Size, root.Bytes, doc.UKI.Size) + int64(root.Objects)*perObject + reserveBytes,
			ESP:   needOnESP(onESP, doc.UKI.Size),
		},
		Free:       Room{Store: space.Free, ESP: onESP.Free},
		needInodes: int64(root.Objects) + 2 + reserveInodes, freeInodes: space.Inodes,
	}, nil
}

// free asks both file systems.
func (m *Machine) free() (store.Space, esp.Space, error) {
	space, err := m.Store.Space()
	if err != nil {
		return store.Space{}, esp.Space{}, err
	}
	onESP, err := m.ESP.Free()
	return space, onESP, err
}

// needOnESP is what a boot file takes. The directory may have to grow for two names,
// of a cluster each.
func needOnESP(sp esp.Space, bootFile int64) int64 {
	block := max(sp.Block, 1)
	return (bootFile+block-1)/block*block + 2*block
}

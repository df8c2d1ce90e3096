package update

import (
	"fmt"
	"slices"

	"github.com/ashlar-os/ashlar/internal/machine/history"
)

// note adds to the machine's history, on behalf of who runs this. The history
// is for people; a full disk must not keep a machine from going back or from
// clearing up, so that a line is missing then is all that happens.
func (m *Machine) note(kind history.Kind, d *Deployment, why string) {
	by := m.By
	if by == "" {
		by = history.ByAgent
	}
	m.noteBy(by, kind, d, why)
}

func (m *Machine) noteBy(by string, kind history.Kind, d *Deployment, why string) {
	_ = history.Append(m.Store.Dir, history.Event{
		Kind: kind, Image: d.Image, ID: d.Name + "-" + d.Version, By: by, Why: why,
	})
}

// noteFailed tells of deployments whose tries the loader used up, once each
// time that it did.
func (m *Machine) noteFailed(s *State) {
	var events []history.Event
	for i := range s.Deployments {
		d := &s.Deployments[i]
		if d.Entry == nil || !d.Is(Failed) {
			continue
		}
		if events == nil {
			var err error
			if events, err = history.Read(m.Store.Dir); err != nil {
				return
			}
		}
		if told(events, d) {
			continue
		}
		why := fmt.Sprintf("out of tries after %d", d.tries())
		if d.Failure != "" {
			why += ": " + d.Failure
		}
		m.noteBy(history.ByLoader, history.Failed, d, why)
	}
}

// told reports whether the history has the loader giving up on d, and nothing
// after that gave it tries again.
func told(events []history.Event, d *Deployment) bool {
	for _, e := range slices.Backward(events) {
		switch {
		case e.Image != d.Image:
		case e.Kind == history.Failed && e.By == history.ByLoader:
			return true
		case slices.Contains([]history.Kind{history.Staged, history.Blessed, history.CountedAgain}, e.Kind):
			return false
		}
	}
	return false
}

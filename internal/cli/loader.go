package cli

import (
	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/machine/loader"
	"github.com/ashlar-os/ashlar/internal/machine/update"
)

// loaderAnswer says which boot loader started this machine, and what becomes of it.
type loaderAnswer struct {
	Started string           `json:"started"` // file on the ESP that started this boot; "": it did not say
	Running string           `json:"running"` // version of that; "" where it is not known
	Image   string           `json:"image"`   // version that the running image brings; "": none
	Copies  []loader.Program `json:"copies"`  // on the ESP
	Pending loader.Step      `json:"pending"` // what the next good boot does about it
	Why     string           `json:"why"`     // a sentence; "" where both copies are the image's
	Error   string           `json:"error"`   // why nothing of this is known
}

func loaderMachine(m *update.Machine) *loader.Machine {
	return &loader.Machine{Root: machineRoot(), ESP: m.ESP.Dir, Store: m.Store.Dir, Firmware: m.Firmware}
}

func describeLoader(m *update.Machine) *loaderAnswer {
	a := &loaderAnswer{Copies: []loader.Program{}}
	s, err := loaderMachine(m).Look()
	if err != nil {
		a.Error = err.Error()
		return a
	}
	plan := s.Plan()
	a.Started, a.Pending, a.Why = s.Started, plan.Step, plan.Why
	a.Copies = append(a.Copies, s.Copies...)
	for _, c := range s.Copies {
		if c.File == s.Started {
			a.Running = c.Version
		}
	}
	if s.Image != nil {
		a.Image = s.Image.Version
	}
	return a
}

// print says which loader it is, and more only where the copies are not the image's.
func (a *loaderAnswer) print(g *globals) {
	switch {
	case a == nil:
	case a.Error != "":
		g.printf("loader      unknown: %s\n", a.Error)
	case a.Why == "":
		g.printf("loader      %s, the image's\n", a.Image)
	case a.Running != "":
		g.printf("loader      %s; %s\n", a.Running, a.Why)
	case len(a.Copies) > 0:
		g.printf("loader      %s\n", a.Why)
	}
}

// tendLoader takes the next step towards the loader of the image that runs, once its
// boot was found good. The machine is as good without, so nothing else waits for it.
func tendLoader(m *update.Machine) error {
	lm := loaderMachine(m)
	s, err := lm.Look()
	if err != nil {
		return err
	}
	plan := s.Plan()
	if plan.Step == loader.Nothing {
		return nil
	}
	if err := lm.Apply(s, plan); err != nil {
		return err
	}
	kind := map[loader.Step]history.Kind{
		loader.Try: history.LoaderTried, loader.GiveUp: history.LoaderFailed, loader.Follow: history.LoaderUpdated,
	}[plan.Step]
	look, err := m.Look()
	if err != nil {
		return err
	}
	if d := look.With(update.Running); d != nil {
		return history.Append(m.Store.Dir, history.Event{Kind: kind, Image: d.Image, ID: d.Name + "-" + d.Version, By: history.ByAgent, Why: plan.Why})
	}
	return nil
}

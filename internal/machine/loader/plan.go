package loader

import "fmt"

// Step is what is done next.
type Step string

// The steps.
const (
	Nothing Step = "nothing"
	Try     Step = "try"     // the other copy becomes the image's, and is started once
	GiveUp  Step = "give-up" // it did not start this machine, and goes again
	Follow  Step = "follow"  // it did: the other copy becomes the same
)

// Plan is the next step, and why that one.
type Plan struct {
	Step Step
	Why  string // a sentence without its full stop; "" where all is as it should be

	proven, other string   // files
	content       *Program // of the other, afterwards
}

// Plan decides by what is there, and by nothing else.
func (s *State) Plan() Plan {
	keep := func(format string, args ...any) Plan { return Plan{Step: Nothing, Why: fmt.Sprintf(format, args...)} }
	if s.Image == nil {
		return keep("the image brings no loader")
	}
	same := len(s.Copies) == len(Copies)
	for i := range s.Copies {
		same = same && s.Copies[i].same(s.Image)
	}
	if same {
		return Plan{Step: Nothing}
	}
	proven := s.copyAt(s.Started)
	if proven == nil {
		return keep("the image brings %s, and it is not known which of the copies on the ESP started this machine", s.Image.name())
	}
	p := Plan{proven: proven.File, other: Copies[0], content: s.Image}
	if p.other == p.proven {
		p.other = Copies[1]
	}
	other := s.copyAt(p.other)
	if proven.same(s.Image) {
		p.Step, p.Why = Follow, fmt.Sprintf("%s started this machine; the other copy follows", s.Image.name())
		return p
	}
	tried := s.Tried.of(s.Image)
	switch {
	case older(s.Image, proven):
		return keep("the image's %s is older than what is here, which stays", s.Image.name())
	case s.refused != nil:
		return keep("the image's %s stays away: %v", s.Image.name(), s.refused)
	case tried >= maxTries && s.Tried.Boot != s.boot && !other.same(proven):
		p.Step, p.content = GiveUp, proven
		p.Why = fmt.Sprintf("%s was tried %d times and did not start this machine", s.Image.name(), tried)
		return p
	case tried >= maxTries && s.Tried.Boot != s.boot:
		return keep("%s was tried %d times and did not start this machine", s.Image.name(), tried)
	case tried > 0 && s.Tried.Boot == s.boot:
		return keep("%s is started by the next boot, to be tried", s.Image.name())
	case !s.writes:
		return keep("the image brings %s, and this firmware takes no variables, by which it could be tried", s.Image.name())
	}
	p.Step, p.Why = Try, fmt.Sprintf("the image brings %s, which the next boot will try", s.Image.name())
	return p
}

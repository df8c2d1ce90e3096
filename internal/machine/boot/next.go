package boot

import (
	"fmt"

	"github.com/ashlar-os/ashlar/internal/machine/esp"
)

// Next is the entry that boots next, and why that one.
type Next struct {
	Entry esp.Entry `json:"entry"`
	Why   string    `json:"why"` // a sentence without its full stop
}

// Explain says what boots next; ok is false where the loader has nothing to boot.
func Explain(entries []esp.Entry) (next Next, ok bool) {
	e, ok := esp.Next(entries)
	if !ok {
		return Next{}, false
	}
	newer := 0 // entries that would come first, had they tries left
	for _, o := range entries {
		if o.Ignored == "" && o.Exhausted() && !e.Exhausted() && esp.Newer(o, e) {
			newer++
		}
	}
	var why string
	switch {
	case e.Exhausted():
		why = "every entry is out of tries, and this is the newest"
	case newer == 0:
		why = "it is the newest"
	case newer == 1:
		why = "the newer one is out of tries"
	default:
		why = fmt.Sprintf("the %d newer ones are out of tries", newer)
	}
	switch {
	case e.Counted() && e.Left == 1:
		why += "; it has one try left to prove itself"
	case e.Counted() && e.Left > 1:
		why += fmt.Sprintf("; it has %d tries to prove itself", e.Left)
	}
	return Next{Entry: e, Why: why}, true
}

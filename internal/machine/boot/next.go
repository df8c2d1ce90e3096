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
	// Entries that would come first, had they tries left: the loader used them
	// up, or a rollback put them aside.
	failed, aside := 0, 0
	for _, o := range entries {
		switch {
		case o.Ignored != "" || !o.Exhausted() || e.Exhausted() || !esp.Newer(o, e):
		case o.Done > 0:
			failed++
		default:
			aside++
		}
	}
	var why string
	switch {
	case e.Exhausted():
		why = "every entry is out of tries, and this is the newest"
	case failed+aside == 0:
		why = "it is the newest"
	case failed == 0 && aside == 1:
		why = "the newer one was put aside by a rollback"
	case failed == 0:
		why = fmt.Sprintf("the %d newer ones were put aside by a rollback", aside)
	case failed+aside == 1:
		why = "the newer one is out of tries"
	default:
		why = fmt.Sprintf("the %d newer ones are out of tries or put aside", failed+aside)
	}
	switch {
	case e.Counted() && e.Left == 1:
		why += "; it has one try left to prove itself"
	case e.Counted() && e.Left > 1:
		why += fmt.Sprintf("; it has %d tries to prove itself", e.Left)
	}
	return Next{Entry: e, Why: why}, true
}

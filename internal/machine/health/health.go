package health

import (
	"context"
	"fmt"
	"time"

	"github.com/ashlar-os/ashlar/internal/machine/history"
)

// Result is the outcome of one check.
type Result struct {
	Kind   Kind     `json:"kind"`
	Name   string   `json:"name"` // the unit or the executable's path; else the kind
	Good   bool     `json:"good"`
	Reason string   `json:"reason"` // a sentence without its full stop; empty when good
	Lines  []string `json:"lines"`  // of a failed one: the last of its unit's journal, or that it said
	MS     int64    `json:"ms"`
}

// Kind is what is checked.
type Kind string

// The kinds, in the order in which they are checked.
const (
	Target  Kind = "target"
	Unit    Kind = "unit"
	Network Kind = "network"
	Program Kind = "program"
)

// Report is the outcome of all checks.
type Report struct {
	Good   bool     `json:"good"`
	Checks []Result `json:"checks"`
}

// Checker checks the system below Root.
type Checker struct {
	Root   string // "/" but in tests
	Config Config

	system manager // nil: systemd
}

// Check makes all checks. It fails only when ctx is done.
func (c *Checker) Check(ctx context.Context) (*Report, error) {
	r := &Report{Good: true, Checks: []Result{}}
	add := func(kind Kind, name string, check func(context.Context) (reason string, lines []string)) {
		begin := time.Now()
		limited, cancel := context.WithTimeout(ctx, c.timeout())
		defer cancel()
		reason, lines := check(limited)
		result := Result{Kind: kind, Name: name, Good: reason == "", Reason: reason, Lines: lines, MS: time.Since(begin).Milliseconds()}
		if result.Lines == nil || result.Good {
			result.Lines = []string{}
		}
		r.Good = r.Good && result.Good
		r.Checks = append(r.Checks, result)
	}
	add(Target, string(Target), c.checkTarget)
	for _, name := range c.Config.Units {
		add(Unit, name, func(ctx context.Context) (string, []string) { return c.checkUnit(ctx, name) })
	}
	if c.Config.Network {
		add(Network, string(Network), c.checkNetwork)
	}
	programs, err := findPrograms(c.Root)
	if err != nil {
		add(Program, programDirs[0], func(context.Context) (string, []string) { return err.Error(), nil })
	}
	for _, path := range programs {
		add(Program, path, func(ctx context.Context) (string, []string) { return c.checkProgram(ctx, path) })
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("checking the system: %w", err)
	}
	return r, nil
}

func (c *Checker) timeout() time.Duration {
	if c.Config.Timeout <= 0 {
		return DefaultTimeout
	}
	return time.Duration(c.Config.Timeout) * time.Second
}

func (c *Checker) manager() manager {
	if c.system != nil {
		return c.system
	}
	return systemd{}
}

// Failed lists what failed.
func (r *Report) Failed() (list []Result) {
	for _, check := range r.Checks {
		if !check.Good {
			list = append(list, check)
		}
	}
	return list
}

// Failure is what is kept of a report that is not good: the first check that
// failed, and how many did.
func (r *Report) Failure(boot string) history.Failure {
	failed := r.Failed()
	first := failed[0]
	f := history.Failure{
		Boot: boot, Stage: history.Checking, Check: first.Name, Reason: first.Reason, Lines: first.Lines,
		Passed: len(r.Checks) - len(failed),
	}
	switch others := len(failed) - 1; {
	case first.Kind == Target:
		f.Stage = history.Starting
	case others == 1:
		f.Reason += "; another check failed as well"
	case others > 1:
		f.Reason += fmt.Sprintf("; %d other checks failed as well", others)
	}
	return f
}

// Unfinished is what is kept of a boot that did not get as far as its checks,
// or did not finish them.
func Unfinished(ctx context.Context, boot string) history.Failure {
	return unfinished(ctx, systemd{}, boot)
}

func unfinished(ctx context.Context, m manager, boot string) history.Failure {
	f := history.Failure{Boot: boot, Stage: history.Starting, Check: string(Target), Reason: "the system did not finish its start in time"}
	waiting, err := m.unitsIn(ctx, "activating")
	switch {
	case err != nil:
	case len(waiting) == 1:
		f.Reason += ", waiting for " + waiting[0]
	case len(waiting) > 1:
		f.Reason += fmt.Sprintf(", waiting for %s and %d more", waiting[0], len(waiting)-1)
	}
	if failed, err := m.unitsIn(ctx, "failed"); err == nil && len(failed) > 0 {
		f.Lines = m.journal(ctx, failed[0])
	} else {
		f.Lines = m.journal(ctx, "")
	}
	return f
}

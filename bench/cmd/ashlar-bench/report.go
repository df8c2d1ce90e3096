package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
)

// report is what becomes RESULTS.md.
type report struct {
	machine     string
	differences []string
	peers       []string
	findings    []finding
	works       []work
}

// work is one piece of work and what it cost each side.
type work struct {
	name       string
	ours, peer side // peer is empty where there is none
	peerName   string
}

// finding is one figure that a person wants to know, and its target.
type finding struct {
	what, figure, target string
	missed               bool
}

// bound is a limit of a ratio.
type bound struct {
	limit float64
	least bool
}

func atLeast(x float64) bound { return bound{x, true} }
func atMost(x float64) bound  { return bound{x, false} }

func (r *report) add(w work) { r.works = append(r.works, w) }

func (r *report) ratio(what string, x float64, b bound) {
	f := finding{what: what, figure: fmt.Sprintf("%.2f ×", x), target: fmt.Sprintf("≤ %g ×", b.limit), missed: x > b.limit}
	if b.least {
		f.target, f.missed = fmt.Sprintf("≥ %g ×", b.limit), x < b.limit
	}
	r.findings = append(r.findings, f)
}

// note is a ratio that nothing is demanded of.
func (r *report) note(what string, x float64) {
	r.findings = append(r.findings, finding{what: what, figure: fmt.Sprintf("%.2f ×", x)})
}

func (r *report) count(what string, n, peer, limit int64) {
	r.findings = append(r.findings, finding{what: what, figure: fmt.Sprintf("%d (ostree: %d)", n, peer),
		target: fmt.Sprintf("≤ %d", limit), missed: n > limit})
}

// maxMemory is what the agent may occupy, in bytes.
const maxMemory = 150e6

func (r *report) memory(what string, n int64) { r.memoryBelow(what, n, maxMemory) }

func (r *report) memoryBelow(what string, n, limit int64) {
	r.findings = append(r.findings, finding{what: what, figure: fmt.Sprintf("%.0f MB", float64(n)/1e6),
		target: fmt.Sprintf("< %.0f MB", float64(limit)/1e6), missed: n >= limit})
}

// verdict is an error that lists every figure that misses its target.
func (r *report) verdict() error {
	var list []error
	for _, f := range r.findings {
		if f.missed {
			list = append(list, fmt.Errorf("%s: %s, the target is %s", f.what, f.figure, f.target))
		}
	}
	return errors.Join(list...)
}

func (r *report) render() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Speed and memory, measured\n\nWritten by `make bench` on %s; docs/bench.md says how.\n\n", time.Now().UTC().Format("2 January 2006"))
	fmt.Fprintf(&b, "%s\n\n", r.machine)
	fmt.Fprintf(&b, "| what | figure | target | |\n| --- | --- | --- | --- |\n")
	for _, f := range r.findings {
		met := "met"
		switch {
		case f.missed:
			met = "**missed**"
		case f.target == "":
			met = ""
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", f.what, f.figure, f.target, met)
	}
	b.WriteString("\n## The runs\n\nWall and CPU (user and system) in seconds, medians; peak resident memory in MB, the highest;\nbytes are of response bodies, in MB. The servers' CPU is not counted.\n\n")
	b.WriteString("| work | side | runs | wall | CPU | peak | requests | bytes |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, w := range r.works {
		writeSide(&b, w.name, "ashlar", w.ours)
		writeSide(&b, "", w.peerName, w.peer)
	}
	fmt.Fprintf(&b, "\n## The peers\n\n%s\n", strings.Join(r.peers, "\n"))
	fmt.Fprintf(&b, "\n## What differs between v1 and v2\n\n%s\n", strings.Join(r.differences, "\n"))
	return b.Bytes()
}

func writeSide(b *bytes.Buffer, name, who string, s side) {
	if len(s) == 0 {
		return
	}
	requests, moved := "", ""
	if s.requests() > 0 {
		requests, moved = fmt.Sprint(s.requests()), fmt.Sprintf("%.1f", float64(s.bytes())/1e6)
	}
	fmt.Fprintf(b, "| %s | %s | %d | %.2f | %.2f | %.0f | %s | %s |\n", name, who, len(s),
		s.wall().Seconds(), s.cpu().Seconds(), float64(s.peak())/1e6, requests, moved)
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// report is one part of RESULTS.md.
type report struct {
	title       string
	steps       int  // that were done
	complete    bool // those are all
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

// missed lists every figure that misses its target.
func (r *report) missed() (list []error) {
	for _, f := range r.findings {
		if f.missed {
			list = append(list, fmt.Errorf("%s: %s, the target is %s", f.what, f.figure, f.target))
		}
	}
	return list
}

const resultsHead = "# Speed and memory, measured\n\nWritten by `make bench`, part by part; docs/bench.md says how.\n"

// publishResults writes parts to a file, where those that are in it already and were
// not measured now stay as they are. Its error names what misses its target.
func publishResults(path string, parts []*report) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	kept := map[string]string{}
	for _, text := range strings.Split(string(old), partHead)[1:] {
		title, _, _ := strings.Cut(text, "\n")
		kept[title] = strings.TrimRight(text, "\n") + "\n"
	}
	var missed []error
	for _, part := range parts {
		if _, ok := kept[part.title]; ok && !part.complete {
			return fmt.Errorf("%q has a part %q, and only some of its steps were measured: another file, or all of them", path, part.title)
		}
		kept[part.title] = string(part.render())
		missed = append(missed, part.missed()...)
	}
	table := resultsHead
	for _, title := range []string{images, media, installs, starts} {
		if text, ok := kept[title]; ok {
			table += partHead + text
		}
	}
	if err := os.WriteFile(path, []byte(table), 0o644); err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString(table); err != nil {
		return err
	}
	return errors.Join(missed...)
}

// partHead begins a part; its title follows.
const partHead = "\n## "

func (r *report) render() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n\nMeasured on %s. %s\n\n", r.title, time.Now().UTC().Format("2 January 2006"), r.machine)
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
	if len(r.works) > 0 {
		b.WriteString("\n### The runs\n\nWall and CPU (user and system) in seconds, medians; peak resident memory in MB, the highest;\nbytes are of response bodies, in MB. The servers' CPU is not counted.\n\n")
		b.WriteString("| work | side | runs | wall | CPU | peak | requests | bytes |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	}
	for _, w := range r.works {
		writeSide(&b, w.name, "ashlar", w.ours)
		writeSide(&b, "", w.peerName, w.peer)
	}
	for _, list := range []struct {
		title string
		lines []string
	}{{"The peers", r.peers}, {"What differs between v1 and v2", r.differences}} {
		if len(list.lines) > 0 {
			fmt.Fprintf(&b, "\n### %s\n\n%s\n", list.title, strings.Join(list.lines, "\n"))
		}
	}
	return b.Bytes()
}

func writeSide(b *bytes.Buffer, name, who string, s side) {
	if len(s) == 0 {
		return
	}
	requests, moved, peak := "", "", ""
	cpu := fmt.Sprintf("%.2f", s.cpu().Seconds())
	if s.peak() > 0 { // else it ran in a virtual machine, and what that occupies says nothing
		peak = fmt.Sprintf("%.0f", float64(s.peak())/1e6)
	}
	if s.requests() > 0 {
		requests, moved = fmt.Sprint(s.requests()), fmt.Sprintf("%.1f", float64(s.bytes())/1e6)
	}
	fmt.Fprintf(b, "| %s | %s | %d | %.2f | %s | %s | %s | %s |\n", name, who, len(s), s.wall().Seconds(), cpu, peak, requests, moved)
}

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// sample is what one run of one program cost.
type sample struct {
	wall, cpu time.Duration // cpu is user and system, of the program and its children
	peak      int64         // bytes resident at most
	requests  int64         // that its server answered
	bytes     int64         // of bodies that its server sent
}

// measure runs a program to its end and says what it cost. Package program is not
// used because it does not tell that.
func measure(ctx context.Context, args ...string) (sample, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	began := time.Now()
	err := cmd.Run()
	wall := time.Since(began)
	if err != nil {
		return sample{}, fmt.Errorf("%q: %w: %s", args, err, bytes.TrimSpace(said.Bytes()))
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return sample{
		wall: wall,
		cpu:  cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		peak: usage.Maxrss << 10,
	}, nil
}

// side is all runs of one side of a comparison.
type side []sample

func (s side) wall() time.Duration { return median(s, func(x sample) time.Duration { return x.wall }) }
func (s side) cpu() time.Duration  { return median(s, func(x sample) time.Duration { return x.cpu }) }
func (s side) bytes() int64        { return median(s, func(x sample) int64 { return x.bytes }) }
func (s side) requests() int64     { return median(s, func(x sample) int64 { return x.requests }) }

// peak is the highest of all runs: a limit holds always or not at all.
func (s side) peak() int64 {
	var most int64
	for _, x := range s {
		most = max(most, x.peak)
	}
	return most
}

// ratio is how much a takes of b's time: of each pair that ran one after the other, and
// of those the median. What disturbs one pair then counts once.
func ratio(a, b side) float64 {
	list := make([]float64, len(a))
	for i := range a {
		list[i] = a[i].wall.Seconds() / b[i].wall.Seconds()
	}
	slices.Sort(list)
	return list[(len(list)-1)/2]
}

// median is the middle value, of an even number the lower of the two.
func median[T time.Duration | int64](s side, value func(sample) T) T {
	list := make([]T, len(s))
	for i, x := range s {
		list[i] = value(x)
	}
	slices.Sort(list)
	return list[(len(list)-1)/2]
}

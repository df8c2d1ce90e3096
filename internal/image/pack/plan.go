package pack

import (
	"slices"
	"sort"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// PlanOptions says how Plan trades bytes for requests. The zero value is good.
type PlanOptions struct {
	Gap         int64 // ranges at most this many bytes apart are joined; 0 means DefaultGap
	MaxRange    int64 // a longer range is split where it can be; 0 means DefaultMaxRange
	MaxRequests int   // no more ranges than this, whatever Gap and MaxRange say; 0 means DefaultMaxRequests
}

// The defaults of PlanOptions. A request costs about a round trip: at 50 ms and
// 20 Mbit/s that is the time of 128 KiB. A range of 8 MiB keeps several
// connections busy and loses little when it is cut.
const (
	DefaultGap         = 128 << 10
	DefaultMaxRange    = 8 << 20
	DefaultMaxRequests = 90
)

// Range is one piece of the blob to read, and what is wanted from it.
type Range struct {
	Offset, Length int64 // in the blob
	Frames         []int // the frames that hold something wanted, ascending; others between them are gap
	Objects        []int // what is wanted: positions in Index.Objects, ascending
	Bytes          int64 // the contents of Objects

	index *Index
}

// Plan lists the ranges to read for every object that is missing. An object is
// in one range, whole; so are the frames of a range. A nil missing wants all.
func (x *Index) Plan(missing func(verity.Digest) bool, o PlanOptions) []Range {
	if o.Gap <= 0 {
		o.Gap = DefaultGap
	}
	if o.MaxRange <= 0 {
		o.MaxRange = DefaultMaxRange
	}
	if o.MaxRequests <= 0 {
		o.MaxRequests = DefaultMaxRequests
	}
	// Some requests are kept for splitting what joining makes long.
	runs := join(x.pieces(missing), o.Gap, max(1, o.MaxRequests-o.MaxRequests/8))
	return split(runs, o.MaxRange, o.MaxRequests, x.BlobSize())
}

// pieces lists the smallest ranges that hold whole objects: two objects are in
// one only if they share a frame.
func (x *Index) pieces(missing func(verity.Digest) bool) []Range {
	var list []Range
	for i := range x.Objects {
		e := &x.Objects[i]
		if missing != nil && !missing(e.Digest) {
			continue
		}
		from := e.Frame
		if n := len(list); n > 0 && list[n-1].lastFrame() == from {
			from++
		} else {
			list = append(list, Range{Offset: x.Frames[from].Offset, index: x})
		}
		r := &list[len(list)-1]
		for f := from; f <= x.last(i); f++ {
			r.Frames = append(r.Frames, f)
		}
		last := x.Frames[r.lastFrame()]
		r.Length = last.Offset + last.Length - r.Offset
		r.Objects = append(r.Objects, i)
		r.Bytes += int64(e.Size)
	}
	return list
}

func (r *Range) lastFrame() int { return r.Frames[len(r.Frames)-1] }
func (r *Range) end() int64     { return r.Offset + r.Length }

// join gathers pieces that are at most gap apart into runs, and then runs that
// are nearest to each other until no more than limit are left.
func join(pieces []Range, gap int64, limit int) [][]Range {
	if len(pieces) == 0 {
		return nil
	}
	gaps := make([]int64, 0, len(pieces)-1)
	for i := 1; i < len(pieces); i++ {
		gaps = append(gaps, pieces[i].Offset-pieces[i-1].end())
	}
	// Only the limit-1 widest gaps may remain.
	widest := append([]int64(nil), gaps...)
	sort.Slice(widest, func(i, j int) bool { return widest[i] > widest[j] })
	if limit-1 < len(widest) {
		gap = max(gap, widest[limit-1])
	}
	var runs [][]Range
	start := 0
	for i, g := range gaps {
		if g > gap {
			runs = append(runs, pieces[start:i+1])
			start = i + 1
		}
	}
	return append(runs, pieces[start:])
}

// split makes ranges of at most maxRange bytes from runs, between their pieces;
// if these are more than limit, of twice as many bytes, and so on.
func split(runs [][]Range, maxRange int64, limit int, blobSize int64) []Range {
	for {
		var list []Range
		for _, run := range runs {
			r := run[0].alone()
			for i := 1; i < len(run); i++ {
				if run[i].end()-r.Offset > maxRange {
					list = append(list, r)
					r = run[i].alone()
				} else {
					r.add(&run[i])
				}
			}
			list = append(list, r)
		}
		if len(list) <= limit || maxRange >= blobSize {
			return list
		}
		maxRange *= 2
	}
}

// alone returns r such that appending to it leaves the original as it is.
func (r Range) alone() Range {
	r.Frames, r.Objects = slices.Clip(r.Frames), slices.Clip(r.Objects)
	return r
}

// add extends r by next, which begins where r ends or later.
func (r *Range) add(next *Range) {
	r.Length = next.end() - r.Offset
	r.Frames = append(r.Frames, next.Frames...)
	r.Objects = append(r.Objects, next.Objects...)
	r.Bytes += next.Bytes
}

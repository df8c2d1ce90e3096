package update

import "fmt"

// What stays free in the store whatever is staged: the running system's changes of
// /etc live on the same file system, and mostly its /var.
const (
	reserveBytes  = 64 << 20
	reserveInodes = 1000
)

// Room is space on both file systems, in bytes.
type Room struct {
	Store int64 `json:"store"`
	ESP   int64 `json:"esp"`
}

// SpaceError says which file system is too small for a release.
type SpaceError struct {
	Where      string // "the store" or "the ESP"
	What       string // "MB" or "inodes"
	Need, Free int64
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("%s has %d %s free, the release needs %d", e.Where, e.Free, e.What, e.Need)
}

// Hint says what may help.
func (e *SpaceError) Hint() string {
	return "ashlar gc --dry-run shows what can go; ashlar status shows what is pinned"
}

// checkRoom compares what is needed with what is free: for files of these sizes
// in the store, and for the boot file, which is in the store's tmp/ on its way.
// Nothing is written before both fit.
func (m *Machine) checkRoom(plan *StagePlan, sizes []int64) error {
	space, onESP, err := m.free()
	if err != nil {
		return err
	}
	plan.Free = Room{Store: space.Free, ESP: onESP.Free}
	plan.Need = Room{Store: space.Need(sizes...) + reserveBytes}
	if plan.here == nil {
		uki := plan.doc().UKI.Size
		plan.Need.Store += space.Need(uki)
		plan.Need.ESP = needOnESP(onESP, uki)
	}
	inodes := int64(len(sizes)) + reserveInodes
	switch {
	case plan.Need.Store > plan.Free.Store:
		return tooFewBytes("the store", plan.Need.Store, plan.Free.Store)
	case space.Inodes >= 0 && space.Inodes < inodes:
		return &SpaceError{"the store", "inodes", inodes, space.Inodes}
	case plan.Need.ESP > plan.Free.ESP:
		return tooFewBytes("the ESP", plan.Need.ESP, plan.Free.ESP)
	}
	return nil
}

func tooFewBytes(where string, need, free int64) error {
	const mb = 1e6
	return &SpaceError{where, "MB", (need + mb - 1) / mb, free / mb}
}

package torture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/internal/vmtest/writelog"
)

// qemuLog has QEMU write a log of five times two writes and a flush.
func qemuLog(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	disk, log := filepath.Join(dir, "disk"), filepath.Join(dir, "log")
	for name, size := range map[string]int{disk: 1 << 20, log: 0} {
		if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-t", "writeback"}
	for i := range 5 {
		args = append(args, "-c", fmt.Sprintf("write %dk 1k", i), "-c", fmt.Sprintf("write %dk 1k", 100+i), "-c", "flush")
	}
	node := fmt.Sprintf(`json:{"driver":"blklogwrites","file":{"driver":"file","filename":%q},"log":{"driver":"file","filename":%q}}`, disk, log)
	if out, err := exec.Command("qemu-io", append(args, node)...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-io: %v: %s", err, out)
	}
	return log
}

// TestDemands: what must hold changes with the flush that made it hold, and not
// with the writes before.
func TestDemands(t *testing.T) {
	log, err := writelog.Open(qemuLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	at := func(entries int) vmtest.Position { return vmtest.Position{Entries: entries} }
	j := &Judge{log: log, Recording: &Recording{
		Phases: []Phase{
			{"boot", Nothing, at(0), []string{"1"}, []string{"1"}},
			{"update", Updating, at(4), []string{"1", "2"}, []string{"1"}}, // begins between two flushes
			{"staged", Nothing, at(9), []string{"2"}, []string{"1", "2"}},
		},
		Promises: []Promise{{at(6), "file", "content"}},
	}}
	for _, p := range j.Phases {
		j.positions = append(j.positions, j.index(p.From))
	}
	for _, test := range []struct {
		epoch    int
		phase    string
		boots    []string
		whole    []string
		promises int
	}{
		{0, "boot", []string{"1"}, []string{"1"}, 0},
		{1, "boot", []string{"1", "2"}, []string{"1"}, 0},
		{2, "update", []string{"1", "2"}, []string{"1"}, 1},
		{3, "staged", []string{"2"}, []string{"1", "2"}, 1},
		{5, "staged", []string{"2"}, []string{"1", "2"}, 1},
	} {
		d := j.Demands(writelog.Cut{Epoch: test.epoch, Fate: writelog.Dropped})
		if d.Phase != test.phase || !slices.Equal(d.Boots, test.boots) || !slices.Equal(d.Whole, test.whole) || len(d.Promises) != test.promises {
			t.Errorf("epoch %d demands %+v, want %+v", test.epoch, d, test)
		}
	}

	// A sample is spread over what is done, over the phases and over the fates, and
	// begins as a smaller one does.
	j.esp = &partition{Section: writelog.Section{At: 100 << 10, Length: 3 << 10}}
	cuts := j.Cuts(1, 8)
	sample := j.Sample(cuts, 6, 1)
	phases, fates := make(map[string]int), make(map[writelog.Fate]bool)
	for _, c := range sample {
		phases[j.Demands(c).Phase]++
		fates[c.Fate] = true
	}
	if len(sample) != 6 || phases["update"] != 3 || len(phases) != 3 || len(fates) != 6 {
		t.Errorf("a sample is %v, of the phases %v", sample, phases)
	}
	if first := j.Sample(cuts, 2, 1); !slices.Equal(sample[:2], first) {
		t.Errorf("a sample begins with %v, and a smaller one with %v", sample[:2], first)
	}
	if all := j.Sample(cuts, 1000, 1); len(all) != len(cuts) {
		t.Errorf("a sample of everything has %d of %d", len(all), len(cuts))
	}
}

// TestJudge: each thing that can be wrong is.
func TestJudge(t *testing.T) {
	good := func() (Demand, string, *espView, *rootView) {
		return Demand{Boots: []string{"1", "2"}, Whole: []string{"1"}, Promises: []Promise{{Path: "file", Content: "content"}}}, "2",
			&espView{file: "ashlar_2.efi"}, &rootView{whole: map[string]error{"1": nil, "2": nil}, files: map[string]string{"file": "content"}}
	}
	if err := judge(good()); err != nil {
		t.Errorf("a good disk: %v", err)
	}
	broken := fmt.Errorf("broken")
	for what, spoil := range map[string]func(*Demand, *string, *espView, *rootView){
		"the ESP":               func(_ *Demand, _ *string, e *espView, _ *rootView) { e.err = broken },
		"the root partition":    func(_ *Demand, _ *string, _ *espView, r *rootView) { r.err = broken },
		"another release boots": func(_ *Demand, v *string, _ *espView, _ *rootView) { *v = "3" },
		"what boots":            func(_ *Demand, _ *string, _ *espView, r *rootView) { r.whole["2"] = broken },
		"what stays":            func(_ *Demand, _ *string, _ *espView, r *rootView) { r.whole["1"] = broken },
		"a lost file":           func(_ *Demand, _ *string, _ *espView, r *rootView) { delete(r.files, "file") },
	} {
		d, v, e, r := good()
		spoil(&d, &v, e, r)
		if err := judge(d, v, e, r); err == nil {
			t.Errorf("%s: the disk passes", what)
		}
	}
}

// TestJudgeNothing: firmware may find nothing on a disk until the system is installed.
func TestJudgeNothing(t *testing.T) {
	table := new(tableView)
	if err := judgeNothing(Demand{Boots: []string{nothing, installed}}, table); err != nil {
		t.Errorf("while it is installed: %v", err)
	}
	if err := judgeNothing(Demand{Boots: []string{installed}}, table); err == nil {
		t.Error("an installed disk without a table passes")
	}
}

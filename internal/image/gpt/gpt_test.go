package gpt

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/program"
)

const (
	espID  = "aaaaaaaa-1111-2222-3333-444444444444"
	rootID = "bbbbbbbb-1111-2222-3333-444444444444"
)

// sfdisk runs the tool whose word counts on what a partition table is.
func sfdisk(t testing.TB, stdin string, args ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := program.Run(context.Background(), program.Command{
		Args: append([]string{"sfdisk"}, args...), Stdin: strings.NewReader(stdin), Stdout: &out,
	}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// emptyDisk makes a file of 8 MiB of zeros.
func emptyDisk(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 8<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// diskImage has a partition table that sfdisk wrote.
func diskImage(t testing.TB) []byte {
	t.Helper()
	path := emptyDisk(t)
	sfdisk(t, "label: gpt\nsize=2048, type="+TypeESP.String()+", uuid="+espID+", name=esp\n"+
		"size=2048, type="+TypeRoot.String()+", uuid="+rootID+", name=ashlar-root\n", "-q", path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What sfdisk writes is read as sfdisk was told.
func TestRead(t *testing.T) {
	got, err := Read(bytes.NewReader(diskImage(t)), 512)
	if err != nil {
		t.Fatal(err)
	}
	want := []Partition{
		{1, TypeESP, MustParse(espID), "esp", 1 << 20, 1 << 20},
		{2, TypeRoot, MustParse(rootID), "ashlar-root", 2 << 20, 1 << 20},
	}
	if !reflect.DeepEqual(got.Partitions, want) {
		t.Errorf("read %+v, want %+v", got.Partitions, want)
	}
}

// What is written is read as it was meant, here and by sfdisk, which checks the
// backup too.
func TestWrite(t *testing.T) {
	table := &Table{Disk: MustParse("cccccccc-1111-2222-3333-444444444444"), Sector: 512, Size: 8<<20 + 100, Partitions: []Partition{
		{1, TypeESP, MustParse(espID), "ashlar-esp", 1 << 20, 2 << 20},
		{2, TypeRoot, MustParse(rootID), "Wurzel äöü", 3 << 20, 4 << 20},
	}}
	path := emptyDisk(t)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := table.Write(f); err != nil {
		t.Fatal(err)
	}
	got, err := Read(f, 512)
	if err != nil || got.Disk != table.Disk || !reflect.DeepEqual(got.Partitions, table.Partitions) {
		t.Errorf("read %+v (%v), want %+v", got, err, table)
	}
	var said struct {
		PartitionTable struct {
			Label, ID  string
			Partitions []struct {
				Start, Size      int64
				Type, UUID, Name string
			}
		}
	}
	if err := json.Unmarshal(sfdisk(t, "", "--json", path), &said); err != nil {
		t.Fatal(err)
	}
	if !strings.EqualFold(said.PartitionTable.ID, table.Disk.String()) || len(said.PartitionTable.Partitions) != 2 {
		t.Fatalf("sfdisk sees %+v", said)
	}
	for i, p := range said.PartitionTable.Partitions {
		want := table.Partitions[i]
		if p.Start*512 != want.Start || p.Size*512 != want.Size || !strings.EqualFold(p.Type, want.Type.String()) ||
			!strings.EqualFold(p.UUID, want.ID.String()) || p.Name != want.Name {
			t.Errorf("sfdisk sees %+v, written was %+v", p, want)
		}
	}
	if out := sfdisk(t, "", "--verify", path); !bytes.Contains(out, []byte("No errors detected")) {
		t.Errorf("sfdisk --verify: %s", out)
	}
}

// A disk with sectors of 4096 bytes has its table elsewhere.
func TestLargeSectors(t *testing.T) {
	table := &Table{Sector: 4096, Size: 8 << 20, Partitions: []Partition{{1, TypeESP, MustParse(espID), "esp", 1 << 20, 2 << 20}}}
	f, err := os.OpenFile(emptyDisk(t), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := table.Write(f); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(f, 4096); err != nil || !reflect.DeepEqual(got.Partitions, table.Partitions) {
		t.Errorf("read %+v (%v)", got, err)
	}
	if _, err := Read(f, 512); err == nil {
		t.Error("the table is found with the wrong size of sector")
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, want string
		parts      []Partition
	}{
		{"before the table's end", "outside", []Partition{{Name: "p", Start: 512, Size: 512}}},
		{"past the end", "outside", []Partition{{Name: "p", Start: 1 << 20, Size: 7 << 20}}},
		{"half a sector", "whole sectors", []Partition{{Name: "p", Start: 1 << 20, Size: 700}}},
		{"one over the other", "overlap", []Partition{{Name: "p", Start: 1 << 20, Size: 2 << 20}, {Name: "q", Start: 2 << 20, Size: 2 << 20}}},
		{"a long name", "longer than 36", []Partition{{Name: strings.Repeat("p", 37), Start: 1 << 20, Size: 1 << 20}}},
	} {
		table := &Table{Sector: 512, Size: 8 << 20, Partitions: c.parts}
		if err := table.Write(nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one with %q", c.name, err, c.want)
		}
	}
}

func TestBadTable(t *testing.T) {
	good := diskImage(t)
	for _, c := range []struct {
		name, want string
		edit       func(b []byte) []byte
	}{
		{"no GPT", "no GPT", func(b []byte) []byte { return make([]byte, len(b)) }},
		{"short disk", "reading the partition table", func(b []byte) []byte { return b[:700] }},
		{"table cut off", "reading the partition table", func(b []byte) []byte { return b[:2000] }},
		{"header changed", "checksum", func(b []byte) []byte { b[512+60] ^= 1; return b }},
		{"entry changed", "entries have the checksum", func(b []byte) []byte { b[1024+60] ^= 1; return b }},
		{"header size", "says it has", func(b []byte) []byte { b[512+13] = 0xff; return b }},
	} {
		if _, err := Read(bytes.NewReader(c.edit(bytes.Clone(good))), 512); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one with %q", c.name, err, c.want)
		}
	}
	if _, err := Read(bytes.NewReader(good), 0); err == nil {
		t.Error("a disk without a sector size is read")
	}
}

func TestParse(t *testing.T) {
	if u, err := Parse(strings.ToUpper(espID)); err != nil || u.String() != espID {
		t.Errorf("parsed %v (%v), want %s", u, err, espID)
	}
	for _, bad := range []string{"", espID[1:], espID + "0", strings.ReplaceAll(espID, "-", ""), strings.Replace(espID, "a", "g", 1), "aaaaaaaa1-111-2222-3333-444444444444"} {
		if u, err := Parse(bad); err == nil {
			t.Errorf("%q is parsed as %v", bad, u)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(diskImage(f)[:34*512])
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := Read(bytes.NewReader(b), 512)
		if err != nil {
			return
		}
		if len(table.Partitions) > maxEntries {
			t.Errorf("%d partitions", len(table.Partitions))
		}
		for _, p := range table.Partitions {
			if p.Start < 0 || p.Size <= 0 || p.Start+p.Size < p.Start {
				t.Errorf("partition %+v", p)
			}
		}
	})
}

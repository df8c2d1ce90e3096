package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// testDisk is a disk with an ESP and an ext4 that nothing boots from.
func testDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	disk, content := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "content")
	if err := errors.Join(os.Mkdir(content, 0o755), os.WriteFile(filepath.Join(content, "file"), []byte("as it was\n"), 0o644),
		os.WriteFile(disk, nil, 0o644), os.Truncate(disk, 200<<20)); err != nil {
		t.Fatal(err)
	}
	const espStart, rootStart = 2048, 2048 + 128<<11 // sectors
	for _, args := range [][]string{
		{"sfdisk", "-q", disk},
		{"mkfs.vfat", "-F", "32", "-s", "1", "--offset", fmt.Sprint(espStart), disk, fmt.Sprint(128 << 10)},
		{"mmd", "-i", fmt.Sprintf("%s@@%d", disk, espStart*512), "::/EFI", "::/EFI/Linux"},
		{"mcopy", "-i", fmt.Sprintf("%s@@%d", disk, espStart*512), filepath.Join(content, "file"), "::/EFI/Linux/ashlar_1+3.efi"},
		{"mke2fs", "-q", "-t", "ext4", "-b", "4096", "-d", content, "-E", fmt.Sprintf("offset=%d", rootStart*512), disk, "16384"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = strings.NewReader(fmt.Sprintf("label: gpt\nstart=%d,size=%d,type=uefi\nstart=%d,type=linux\n", espStart, 128<<11, rootStart))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
	return disk
}

func TestDiskIsEditedWhileOff(t *testing.T) {
	ctx := context.Background()
	base := testDisk(t)
	vm := New(t, Config{Base: base})
	files, err := vm.ESP(ctx)
	if err != nil || !slices.Equal(files, []string{"/EFI/Linux/ashlar_1+3.efi"}) {
		t.Errorf("the ESP holds %q, %v", files, err)
	}
	read := func(raw string) (string, int64) {
		t.Helper()
		at, err := FileOffset(ctx, raw, 2, "/file")
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 9)
		f, err := os.Open(raw)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		return string(b), at
	}
	if err := vm.Edit(ctx, func(raw string) error {
		got, at := read(raw)
		if got != "as it was" {
			t.Errorf("at its offset the file is %q", got)
		}
		return FlipByte(raw, at+1)
	}); err != nil {
		t.Fatal(err)
	}
	if err := vm.Inspect(ctx, func(raw string) error {
		if got, _ := read(raw); got != "a\x8c it was" {
			t.Errorf("after the edit the file is %q", got)
		}
		_, err := FileOffset(ctx, raw, 2, "/missing")
		if err == nil {
			t.Error("a missing file has an offset")
		}
		_, _, err = Partition(ctx, raw, 3)
		if err == nil {
			t.Error("a third partition was found")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got, _ := read(base); got != "as it was" {
		t.Errorf("the edit reached the base image: %q", got)
	}
}

// TestPower needs no system: the firmware says that it found none.
func TestPower(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	vm := New(t, Config{Base: testDisk(t), Memory: 256, Args: []string{"-boot", "menu=off"}})
	firmware := func() {
		t.Helper()
		if _, err := vm.WaitConsole(ctx, `BdsDxe: (failed|loading)`); err != nil {
			t.Fatal(err)
		}
	}
	if err := vm.Start(ctx); err != nil {
		t.Fatal(err)
	}
	firmware()
	if err := vm.Start(ctx); err == nil {
		t.Error("a running machine was started")
	}
	if err := vm.Edit(ctx, func(string) error { return nil }); err == nil {
		t.Error("a running machine's disk was edited")
	}
	if err := vm.Reset(); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.WaitConsole(ctx, `BdsDxe: `); err != nil {
		t.Fatal(err)
	}
	if !vm.On() {
		t.Error("after a reset the machine is off")
	}
	vm.PowerCut()
	if vm.On() {
		t.Error("after a power cut the machine is on")
	}
	if _, err := vm.WaitConsole(ctx, `never said`); !errors.Is(err, ErrOff) {
		t.Errorf("waiting for the console of a machine that is off: %v", err)
	}
	if _, err := vm.Run(ctx, "true"); !errors.Is(err, ErrOff) {
		t.Errorf("running a command in a machine that is off: %v", err)
	}
	if err := vm.Start(ctx); err != nil {
		t.Fatal(err)
	}
	firmware()
}

func TestQEMUThatDoesNotStartSaysWhy(t *testing.T) {
	vm := New(t, Config{Base: testDisk(t), Args: []string{"-device", "no-such-device"}})
	err := vm.Start(context.Background())
	if err == nil || !strings.Contains(err.Error(), "no-such-device") {
		t.Errorf("the error is %v", err)
	}
	if vm.On() {
		t.Error("it is on all the same")
	}
}

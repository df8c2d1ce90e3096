package vmtest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/ashlar-os/ashlar/internal/program"
)

// Edit gives fn the path of the disk as a raw file, to change while the
// machine is off. From then on the machine's disk is that file.
func (vm *VM) Edit(ctx context.Context, fn func(raw string) error) error {
	if vm.On() {
		return fmt.Errorf("editing the disk of %s: it is on", vm.Name)
	}
	if vm.format != "raw" {
		raw := vm.path("disk.raw")
		if err := vm.flatten(ctx, raw); err != nil {
			return err
		}
		if err := os.Remove(vm.disk); err != nil {
			return err
		}
		vm.disk, vm.format = raw, "raw"
	}
	return fn(vm.disk)
}

// Inspect gives fn the path of a raw copy of the disk, which is off.
func (vm *VM) Inspect(ctx context.Context, fn func(raw string) error) error {
	if vm.On() {
		return fmt.Errorf("reading the disk of %s: it is on", vm.Name)
	}
	if vm.format == "raw" {
		return fn(vm.disk)
	}
	raw := vm.path("inspect.raw")
	defer os.Remove(raw)
	if err := vm.flatten(ctx, raw); err != nil {
		return err
	}
	return fn(raw)
}

// flatten writes overlay and base to one sparse raw file.
func (vm *VM) flatten(ctx context.Context, raw string) error {
	_, err := program.Run(ctx, program.Command{Args: []string{"qemu-img", "convert", "-f", vm.format, "-O", "raw", vm.disk, raw}})
	if err != nil {
		return fmt.Errorf("copying the disk of %s: %w", vm.Name, err)
	}
	return nil
}

// Snapshot writes the disk, which is off, to a new raw file, from which other
// machines can start.
func (vm *VM) Snapshot(ctx context.Context, raw string) error {
	if vm.On() {
		return fmt.Errorf("copying the disk of %s: it is on", vm.Name)
	}
	return vm.flatten(ctx, raw)
}

// ESP lists the paths of all files on the EFI system partition (partition 1)
// of the disk, which is off, such as "/EFI/BOOT/BOOTX64.EFI".
func (vm *VM) ESP(ctx context.Context) (paths []string, err error) {
	err = vm.Inspect(ctx, func(raw string) error {
		paths, err = ListESP(ctx, raw)
		return err
	})
	return paths, err
}

// ListESP lists the files on the EFI system partition of a raw disk image.
func ListESP(ctx context.Context, raw string) ([]string, error) {
	drive, err := Mtools(ctx, raw)
	if err != nil {
		return nil, err
	}
	out, err := program.Run(ctx, program.Command{Args: []string{"mdir", "-i", drive, "-/", "-b", "::/"}})
	if err != nil {
		return nil, fmt.Errorf("listing the ESP of %q: %w", raw, err)
	}
	var paths []string
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if path := strings.TrimPrefix(line, "::"); !strings.HasSuffix(path, "/") {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// Mtools is the -i argument with which mtools find the ESP of a raw disk image.
func Mtools(ctx context.Context, raw string) (string, error) {
	start, _, err := Partition(ctx, raw, 1)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s@@%d", raw, start), nil
}

// Partition is where a partition of a raw disk image lies, in bytes. The
// first partition has number 1.
func Partition(ctx context.Context, raw string, number int) (start, size int64, err error) {
	out, err := program.Run(ctx, program.Command{Args: []string{"sfdisk", "--json", raw}})
	if err != nil {
		return 0, 0, fmt.Errorf("reading the partitions of %q: %w", raw, err)
	}
	var answer struct {
		Table struct {
			SectorSize int64 `json:"sectorsize"`
			Partitions []struct {
				Node        string `json:"node"`
				Start, Size int64
			} `json:"partitions"`
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return 0, 0, fmt.Errorf("reading the partitions of %q: %w", raw, err)
	}
	sector := answer.Table.SectorSize
	if sector == 0 {
		sector = 512
	}
	for _, p := range answer.Table.Partitions {
		if strings.TrimLeft(strings.TrimPrefix(p.Node, raw), "p") == strconv.Itoa(number) {
			return p.Start * sector, p.Size * sector, nil
		}
	}
	return 0, 0, fmt.Errorf("disk image %q has no partition %d", raw, number)
}

// FileOffset is where the first byte of a file lies in a raw disk image, in
// bytes, when the numbered partition is an ext4. It is how sealed files are
// changed: no kernel would write to them.
func FileOffset(ctx context.Context, raw string, number int, path string) (int64, error) {
	start, _, err := Partition(ctx, raw, number)
	if err != nil {
		return 0, err
	}
	blockSize, err := ext4BlockSize(raw, start)
	if err != nil {
		return 0, fmt.Errorf("finding %q in %q: %w", path, raw, err)
	}
	out, err := program.Run(ctx, program.Command{Args: []string{
		"debugfs", "-R", "blocks " + path, fmt.Sprintf("%s?offset=%d", raw, start)}})
	if err != nil {
		return 0, fmt.Errorf("finding %q in %q: %w", path, raw, err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	block, err := strconv.ParseInt(first, 10, 64)
	if err != nil || block == 0 {
		return 0, fmt.Errorf("finding %q in %q: debugfs names no block but %q", path, raw, first)
	}
	return start + block*blockSize, nil
}

// ext4BlockSize reads s_log_block_size of the superblock, which begins 1024
// bytes into the file system.
func ext4BlockSize(raw string, start int64) (int64, error) {
	f, err := os.Open(raw)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	super := make([]byte, 64)
	if _, err := f.ReadAt(super, start+1024); err != nil {
		return 0, err
	}
	if binary.LittleEndian.Uint16(super[56:]) != 0xef53 {
		return 0, errors.New("the partition holds no ext4")
	}
	shift := binary.LittleEndian.Uint32(super[24:])
	if shift > 6 {
		return 0, fmt.Errorf("the superblock's block size has exponent %d", shift)
	}
	return 1024 << shift, nil
}

// FlipByte inverts the byte at offset in a file.
func FlipByte(path string, offset int64) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, offset); err != nil {
		return fmt.Errorf("reading byte %d of %q: %w", offset, path, err)
	}
	b[0] = ^b[0]
	_, err = f.WriteAt(b, offset)
	return err
}

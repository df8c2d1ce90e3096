package loadertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/vmtest"
)

const (
	fallback = "EFI/BOOT/BOOTX64.EFI" // where firmware looks by itself
	espBytes = 40 << 20               // little more than the least FAT32 there is
	timeout  = time.Minute            // of a boot; it takes one or two seconds on an idle host
)

// Machine is a computer with a loader and an ESP, and nothing else.
type Machine struct {
	dir string
	esp string // the image of its ESP, a disk without partitions
}

// New makes a machine whose ESP holds what is in the directory files, and the
// loader where firmware looks for one. It keeps its disk in dir.
func New(ctx context.Context, dir string, loader []byte, files string) (*Machine, error) {
	m := &Machine{dir: dir, esp: filepath.Join(dir, "esp.img")}
	if err := m.fill(ctx, loader, files); err != nil {
		return nil, fmt.Errorf("making an ESP: %w", err)
	}
	return m, nil
}

func (m *Machine) fill(ctx context.Context, loader []byte, files string) error {
	start := filepath.Join(files, filepath.FromSlash(fallback))
	if err := errors.Join(os.MkdirAll(filepath.Dir(start), 0o755), os.WriteFile(start, loader, 0o644)); err != nil {
		return err
	}
	if err := run(ctx, "mkfs.vfat", "-F", "32", "-C", m.esp, fmt.Sprint(espBytes/1024)); err != nil {
		return err
	}
	list, err := os.ReadDir(files)
	if err != nil {
		return err
	}
	args := []string{"mcopy", "-i", m.esp, "-s"}
	for _, f := range list {
		args = append(args, filepath.Join(files, f.Name()))
	}
	return run(ctx, append(args, "::")...)
}

// Boot starts the machine once and returns what the started program's command
// line was, "" where nothing was started in time.
func (m *Machine) Boot(ctx context.Context) (cmdline string, err error) {
	said := filepath.Join(m.dir, "said")
	if err := os.WriteFile(said, nil, 0o644); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = run(ctx, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
		"-no-reboot", "-machine", "q35", "-accel", "tcg", "-m", "128",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+vmtest.OVMF.Code,
		"-drive", "if=pflash,unit=1,format=raw,snapshot=on,file="+vmtest.OVMF.Vars,
		"-drive", "if=none,id=esp,format=raw,file="+m.esp, "-device", "virtio-blk-pci,drive=esp,bootindex=0",
		"-chardev", "file,id=said,path="+said, "-device", fmt.Sprintf("isa-debugcon,iobase=%#x,chardev=said", debugPort))
	if err != nil {
		return "", fmt.Errorf("starting the loader: %w", err)
	}
	b, err := os.ReadFile(said)
	return string(b), err
}

// Files lists a directory of the ESP.
func (m *Machine) Files(ctx context.Context, dir string) ([]string, error) {
	out, err := program.Run(ctx, program.Command{Args: []string{"mdir", "-i", m.esp, "-b", "::/" + dir}})
	if err != nil {
		return nil, fmt.Errorf("listing the ESP: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		if name := strings.TrimSpace(line); name != "" && !strings.HasSuffix(name, "/") {
			names = append(names, name[strings.LastIndexByte(name, '/')+1:])
		}
	}
	return names, nil
}

// Rename renames a file in a directory of the ESP, as who blesses an entry does.
func (m *Machine) Rename(ctx context.Context, dir, from, to string) error {
	return run(ctx, "mren", "-i", m.esp, "::/"+dir+"/"+from, "::/"+dir+"/"+to)
}

func run(ctx context.Context, args ...string) error {
	_, err := program.Run(ctx, program.Command{Args: args})
	return err
}

package esp

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ashlar-os/ashlar/internal/program"
)

const (
	sectorSize   = 512
	largeCluster = 8         // sectors
	fewSectors   = 512 << 11 // 512 MiB: below it FAT32 needs small clusters to have enough of them
)

// MinSize is the smallest ESP in bytes: FAT32 has at least 65525 clusters.
const MinSize = 64 << 20

// File is one file on the ESP, with its content or where that is.
type File struct {
	Path    string // such as EFI/BOOT/BOOTX64.EFI
	Content []byte
	Source  string // a path; takes the place of Content
}

// Options says where the file system goes and what it is called.
type Options struct {
	Image    string // the file that holds it, which is long enough already
	Start    int64  // of the partition in it, bytes
	Size     int64  // bytes
	Label    string // 11 characters
	VolumeID uint32
	Time     time.Time // of everything
	Work     string    // directory for files in between, which its owner removes
}

// Write makes the file system and copies files to it.
func Write(ctx context.Context, o Options, files []File) error {
	if err := write(ctx, o, files); err != nil {
		return fmt.Errorf("writing the ESP: %w", err)
	}
	return nil
}

func write(ctx context.Context, o Options, files []File) error {
	// mtools gives "@@" and more in a path a meaning: all it sees are links with names of ours.
	work, err := os.MkdirTemp(o.Work, "esp-*")
	if err != nil {
		return err
	}
	image := filepath.Join(work, "image")
	if err := link(o.Image, image); err != nil {
		return err
	}
	cluster := largeCluster
	if o.Size/sectorSize < fewSectors {
		cluster = 1
	}
	start := strconv.FormatInt(o.Start/sectorSize, 10)
	drive := fmt.Sprintf("%s@@%d", image, o.Start)
	// --invariant is for the time of the volume label, which nothing else sets.
	commands := [][]string{{"mkfs.vfat", "--invariant", "-F", "32", "-S", strconv.Itoa(sectorSize), "-s", strconv.Itoa(cluster),
		"-h", start, "--offset", start, "-n", o.Label, "-i", fmt.Sprintf("%08x", o.VolumeID),
		image, strconv.FormatInt(o.Size/1024, 10)}}
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	if dirs := directories(files); len(dirs) > 0 {
		commands = append(commands, append([]string{"mmd", "-i", drive}, dirs...))
	}
	for i, f := range files {
		source := filepath.Join(work, fmt.Sprintf("file%d", i))
		if f.Source != "" {
			err = link(f.Source, source)
		} else {
			err = os.WriteFile(source, f.Content, 0o644)
		}
		if err != nil {
			return err
		}
		commands = append(commands, []string{"mcopy", "-i", drive, source, "::/" + f.Path})
	}
	env := []string{"TZ=UTC", "SOURCE_DATE_EPOCH=" + strconv.FormatInt(o.Time.Unix(), 10), "MTOOLSRC=/dev/null", "MTOOLS_SKIP_CHECK=1"}
	for _, args := range commands {
		if _, err := program.Run(ctx, program.Command{Args: args, Env: env}); err != nil {
			return err
		}
	}
	return nil
}

func link(target, name string) error {
	target, err := filepath.Abs(target)
	if err != nil {
		return err
	}
	return os.Symlink(target, name)
}

// directories lists those that files need, each before what is in it.
func directories(files []File) []string {
	var dirs []string
	for _, f := range files {
		parts := strings.Split(path.Dir(f.Path), "/")
		for i := range parts {
			if dir := "::/" + strings.Join(parts[:i+1], "/"); !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

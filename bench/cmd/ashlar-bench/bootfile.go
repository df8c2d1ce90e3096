package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"io"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/publish/initramfs"
	"github.com/ashlar-os/ashlar/internal/publish/uki"
)

// runBootFile makes the boot file of a directory as Debian's packages leave it.
// The image that its command line names may be the image of another directory:
// the one with the same files, but for the modules' compression.
func runBootFile(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bootfile", flag.ContinueOnError)
	dir := flags.String("tree", "", "directory with kernel and modules as packaged")
	image := flags.String("image", "", "directory that becomes the image; empty: the same")
	first := flags.String("init", "", "first process, ashlar-init")
	version := flags.String("version", "", "of the release")
	out := flags.String("out", "", "file to write")
	if err := flags.Parse(args); err != nil {
		return err
	}
	kernels, err := filepath.Glob(filepath.Join(*dir, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return fmt.Errorf("%q has %d kernels in /boot, want 1", *dir, len(kernels))
	}
	uname := filepath.Base(kernels[0])[len("vmlinuz-"):]
	linux, err := os.ReadFile(kernels[0])
	if err != nil {
		return err
	}
	stub, err := os.ReadFile(filepath.Join(*dir, "usr/lib/systemd/boot/efi/linuxx64.efi.stub"))
	if err != nil {
		return err
	}
	t, err := composefs.ScanDir(ctx, *dir, composefs.ScanOptions{HardLinks: true})
	if err != nil {
		return err
	}
	var initrd bytes.Buffer
	if _, err := initramfs.Build(ctx, &initrd, initramfs.Options{Tree: t, KernelVersion: uname, Init: *first, Mtime: 1}); err != nil {
		return err
	}
	if *image != "" {
		if t, err = composefs.ScanDir(ctx, *image, composefs.ScanOptions{HardLinks: true}); err != nil {
			return err
		}
	}
	digest, _, err := composefs.Digest(t)
	if err != nil {
		return err
	}
	f, err := os.Create(*out)
	if err != nil {
		return err
	}
	defer f.Close()
	err = uki.Build(f, uki.Options{
		Stub: stub, Uname: uname, Cmdline: "ashlar.image=" + digest.String(),
		OSRelease: fmt.Appendf(nil, "ID=ashlar\nIMAGE_ID=ashlar\nIMAGE_VERSION=%s\n", *version),
		Initrd:    section(initrd.Bytes()), Linux: section(linux),
	})
	if err != nil {
		return err
	}
	return f.Close()
}

func section(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

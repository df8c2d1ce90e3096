package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/publish/initramfs"
	"github.com/ashlar-os/ashlar/internal/publish/uki"
)

// stubPath is where systemd keeps the EFI stub that the boot file is made of.
const stubPath = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// errNoKernel is a tree that cannot be booted.
var errNoKernel = errors.New("no kernel in the tree: set kernel.package in the recipe")

// writeBootFile makes the initramfs and then the UKI, whose command line
// names the image: whoever believes the boot file believes the image.
func (b *build) writeBootFile(ctx context.Context) error {
	if b.tree.KernelVersion == "" {
		return errNoKernel
	}
	b.Progress.Stage("writing the boot file", 0, 0)
	err := b.makeBootFile(ctx, bootFile{path: b.ukiPath(), commandLine: b.commandLine(), osRelease: b.bootOSRelease("")})
	if err != nil {
		return err
	}
	b.doc.UKI, err = describeFile(b.ukiPath())
	return err
}

// bootFile is one to be made: the system's own, or that of its install medium.
type bootFile struct {
	path        string
	commandLine string
	osRelease   []byte
}

func (b *build) makeBootFile(ctx context.Context, f bootFile) error {
	initrd, err := os.Create(b.initrdPath())
	if err != nil {
		return err
	}
	defer initrd.Close()
	first := initramfs.Options{Tree: b.tree.Tree, KernelVersion: b.tree.KernelVersion, Init: b.Init, Mtime: b.tree.Lock.Epoch}
	if b.Recipe.RefusesForeign() {
		first.Cmdline = f.commandLine
	}
	_, err = initramfs.Build(ctx, initrd, first)
	if err != nil {
		return fmt.Errorf("writing the initramfs: %w", err)
	}
	stub, err := b.readNode(stubPath)
	if err != nil {
		return err
	}
	kernelPath := "/usr/lib/modules/" + b.tree.KernelVersion + "/vmlinuz"
	kernel := b.tree.Tree.Lookup(kernelPath)
	if kernel == nil || !kernel.IsRegular() || kernel.Source == "" { // what is inline has at most 64 bytes
		return fmt.Errorf("%q is not a kernel", kernelPath)
	}
	linux, err := os.Open(kernel.Source)
	if err != nil {
		return err
	}
	defer linux.Close()

	out, err := os.Create(f.path)
	if err != nil {
		return err
	}
	defer out.Close()
	initrdSize, err := initrd.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	err = uki.Build(out, uki.Options{
		Stub:      stub,
		OSRelease: f.osRelease,
		Cmdline:   f.commandLine,
		Uname:     b.tree.KernelVersion,
		Initrd:    io.NewSectionReader(initrd, 0, initrdSize),
		Linux:     io.NewSectionReader(linux, 0, int64(kernel.Size)),
		Signer:    b.Signer,
	})
	if err != nil {
		return fmt.Errorf("writing the boot file: %w", err)
	}
	return out.Close()
}

// commandLine is the kernel's, with arguments of Ashlar's own before the recipe's.
func (b *build) commandLine(own ...string) string {
	arguments := append([]string{"ashlar.image=" + b.doc.Images[0].Digest.String()}, own...)
	return strings.Join(append(arguments, b.Recipe.CommandLine()...), " ")
}

// bootOSRelease is what the loader shows and sorts by. The loader sorts by
// IMAGE_ID before it looks at versions, so all of Ashlar's boot files carry
// the same one, and a switch to an image of another name sorts like an update.
// What is added to its name is for people.
func (b *build) bootOSRelease(added string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "ID=ashlar\nIMAGE_ID=ashlar\nIMAGE_VERSION=%s\n", b.doc.Version)
	fmt.Fprintf(&out, "NAME=%s\nPRETTY_NAME=\"%s %s%s\"\n", b.doc.Name, b.doc.Name, b.doc.Version, added)
	return out.Bytes()
}

// readNode returns the content of a small file of the tree.
func (b *build) readNode(path string) ([]byte, error) {
	n := b.tree.Tree.Lookup(path)
	if n == nil || n.Inode().Mode&tree.TypeMask != tree.TypeRegular {
		return nil, fmt.Errorf("%q is not a file of the tree: add the package that brings it", path)
	}
	r, err := openNode(n.Inode())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

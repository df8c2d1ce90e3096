package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/tree"
)

func newComposefsCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "composefs",
		GroupID: "format",
		Short:   "Make, read and name composefs images",
		Long: `Make, read and name composefs images: EROFS files that hold a file system's
names and metadata, and the fs-verity digest of each content.

The images are those of mkcomposefs 1.0.8, byte for byte.`,
		Example: `  ashlar composefs digest --dir /usr
  ashlar composefs write --dump tree.dump -o tree.erofs`,
	}
	cmd.AddCommand(newComposefsDigestCommand(g), newComposefsWriteCommand(g), newComposefsDumpCommand(g))
	return cmd
}

// composefsOptions say which tree is meant, and which image of it.
type composefsOptions struct {
	dump       string // a file, or "-"
	dir        string
	flatten    bool
	minVersion int
	output     string
	stdin      io.Reader
}

func (o *composefsOptions) addTo(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.dump, "dump", "", "a tree as text, as composefs-dump(5) describes it; - is standard input")
	flags.StringVar(&o.dir, "dir", "", "a tree as a directory")
	flags.BoolVar(&o.flatten, "flatten-hardlinks", false, "take each hard link in --dir for a file of its own, as mkcomposefs does")
	flags.IntVar(&o.minVersion, "min-version", 0, "lowest format version, 0 or 1")
	_ = cmd.MarkFlagFilename("dump") // these fail only for a flag that is not there
	_ = cmd.MarkFlagDirname("dir")
}

func (o *composefsOptions) check() error {
	switch {
	case (o.dump == "") == (o.dir == ""):
		return &codeError{exitUsage, errors.New("give either --dump or --dir")}
	case o.flatten && o.dir == "":
		return &codeError{exitUsage, errors.New("--flatten-hardlinks goes with --dir only")}
	case o.minVersion != 0 && o.minVersion != 1:
		return &codeError{exitUsage, fmt.Errorf("--min-version %d: there are only 0 and 1", o.minVersion)}
	}
	return nil
}

// tree reads the tree that the options name.
func (o *composefsOptions) tree(ctx context.Context, g *globals) (*tree.Tree, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.dir != "" {
		return composefs.ScanDir(ctx, o.dir, composefs.ScanOptions{HardLinks: !o.flatten, Progress: g.progress})
	}
	if o.dump == "-" {
		return composefs.ParseDump(o.stdin)
	}
	f, err := os.Open(o.dump)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := composefs.ParseDump(f)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", o.dump, err)
	}
	return t, nil
}

func (o *composefsOptions) options() composefs.Options {
	return composefs.Options{MinVersion: o.minVersion}
}

// composefsAnswer is what digest and write answer with --json.
type composefsAnswer struct {
	Digest string `json:"digest"` // fs-verity digest of the image
	Size   int64  `json:"size"`   // of the image, in bytes
}

func newComposefsDigestCommand(g *globals) *cobra.Command {
	var o composefsOptions
	cmd := &cobra.Command{
		Use:   "digest (--dump FILE | --dir DIR)",
		Short: "Print the digest of the image of a tree, and nothing else",
		Long: `Print the fs-verity digest of the composefs image of a tree, without making
the image. It is what "fsverity digest" prints for the image, and by what Ashlar
names it.`,
		Example: `  ashlar composefs digest --dir /usr
  mkcomposefs --print-digest-only --from-file tree.dump; ashlar composefs digest --dump tree.dump`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.stdin = cmd.InOrStdin()
			return runComposefsDigest(cmd.Context(), &o, g)
		},
	}
	o.addTo(cmd)
	return cmd
}

func runComposefsDigest(ctx context.Context, o *composefsOptions, g *globals) error {
	t, err := o.tree(ctx, g)
	if err != nil {
		return err
	}
	digest, size, err := composefs.DigestWith(t, o.options())
	if err != nil {
		return err
	}
	if g.json {
		return g.printJSON(composefsAnswer{digest.String(), size})
	}
	g.printf("%s\n", digest)
	return nil
}

func newComposefsWriteCommand(g *globals) *cobra.Command {
	var o composefsOptions
	cmd := &cobra.Command{
		Use:   "write (--dump FILE | --dir DIR) -o IMAGE",
		Short: "Write the image of a tree",
		Long: `Write the composefs image of a tree to a file. The file appears when it is
whole; the objects that it needs are not copied.`,
		Example: `  ashlar composefs write --dump tree.dump -o tree.erofs
  fsck.erofs tree.erofs`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.stdin = cmd.InOrStdin()
			return runComposefsWrite(cmd.Context(), &o, g)
		},
	}
	o.addTo(cmd)
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "the image to write")
	_ = cmd.MarkFlagFilename("output")
	return cmd
}

func runComposefsWrite(ctx context.Context, o *composefsOptions, g *globals) (err error) {
	if o.output == "" {
		return &codeError{exitUsage, errors.New("give the file to write with --output")}
	}
	t, err := o.tree(ctx, g)
	if err != nil {
		return err
	}
	out, err := renameio.NewPendingFile(o.output, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", o.output, err)
	}
	defer func() { err = errors.Join(err, out.Cleanup()) }()
	if err := composefs.Write(out, t, o.options()); err != nil {
		return fmt.Errorf("cannot write %q: %w", o.output, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := out.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("cannot write %q: %w", o.output, err)
	}
	if !g.json {
		return nil
	}
	digest, size, err := composefs.DigestWith(t, o.options())
	if err != nil {
		return err
	}
	return g.printJSON(composefsAnswer{digest.String(), size})
}

func newComposefsDumpCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "dump IMAGE",
		Short: "Print the tree in an image as text",
		Long: `Print the tree that an image holds in the text form of composefs-dump(5), which
"ashlar composefs write --dump" and "mkcomposefs --from-file" read.`,
		Example: `  ashlar composefs dump tree.erofs
  ashlar composefs dump tree.erofs | ashlar composefs digest --dump -`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault // any file may be one
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runComposefsDump(cmd.Context(), args[0], g)
		},
	}
}

func runComposefsDump(ctx context.Context, path string, g *globals) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	// Not Stat: a block device says its size only this way.
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("reading %q: %w", path, err)
	}
	t, err := composefs.Read(f, size)
	if err != nil {
		return fmt.Errorf("cannot read %q: %w", path, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return composefs.WriteDump(g.stdout, t)
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/media"
)

type mediaWriteOptions struct {
	source  string
	to      []string
	output  string
	answers string
	cache   string
	off     bool
	rootOptions
	serialOptions
}

// mediaWriteAnswer is what `ashlar media write --json` prints.
type mediaWriteAnswer struct {
	Schema  int             `json:"schema"` // 1
	Source  string          `json:"source"`
	Name    string          `json:"name"`
	Version string          `json:"version"`
	Signed  vouch           `json:"signed"`
	Map     string          `json:"map"`               // sha256 of the map: what was written
	Size    int64           `json:"size"`              // bytes of the medium
	Answers digest.Digest   `json:"answers,omitempty"` // of the answers that were put on it
	Media   []writtenAnswer `json:"media"`
}

// writtenAnswer is one drive or file.
type writtenAnswer struct {
	Path   string `json:"path"`
	Model  string `json:"model,omitempty"`
	Serial string `json:"serial,omitempty"`
	media.Written
	Error string `json:"error,omitempty"` // nothing boots from it
}

func newMediaWriteCommand(g *globals) *cobra.Command {
	var o mediaWriteOptions
	c := &cobra.Command{
		Use:   "write RELEASE|IMAGE --to DRIVE",
		Short: "Write a medium that is signed, and read it back",
		Long: `Write the medium of a release to a drive, or to a file: --to names either, and may
be repeated; -o FILE is an image for a CD, a virtual machine, or dd.

RELEASE is HOST/PATH[:CHANNEL] in a registry, or a directory that "ashlar publish"
signed a release into. IMAGE is a file, or a drive, that is a medium already. What
is not signed is refused, and every byte is compared before the first one is
written. The publisher's root.json is --root, or that of this machine's image.

Refused are drives that this computer runs from, that hold what is to be written,
or that are in use; and those that are too large to be a stick (256 GB) or built
in, unless --serial names them too. A drive is shown, and its name is asked for,
before everything on it is lost.

Only what the medium uses is written, what makes it boot at the very end. Then all
of it is read back and compared. A write or a download that was cut goes on where
it was, with the same command.

--answers FILE puts the answers of an unattended installation on the medium.`,
		Example: `  sudo ashlar media write registry.example/acme/desktop:stable --root acme-root.json --to /dev/sdb
  ashlar media write signed/ --root keys/root.json -o acme-desktop.iso
  sudo ashlar media write desktop.iso --root acme-root.json --to /dev/sdb --to /dev/sdc`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.source = args[0]
			return runMediaWrite(c.Context(), o, g)
		},
	}
	o.rootOptions.register(c)
	o.serialOptions.register(c)
	c.Flags().StringArrayVar(&o.to, "to", nil, "write to `DRIVE`, or to a file; may be repeated")
	c.Flags().StringVarP(&o.output, "output", "o", "", "write an image to `FILE`")
	c.Flags().StringVar(&o.answers, "answers", "", "put the answers of `FILE` on the medium, which then installs by itself")
	c.Flags().StringVar(&o.cache, "cache", "", "keep what is downloaded in `DIR` (default: the user's cache)")
	c.Flags().BoolVar(&o.off, "power-off", false, "end a drive's power when it is done, so that it can be taken out")
	c.MarkFlagFilename("answers", "toml")
	c.MarkFlagFilename("output", "iso", "img")
	c.MarkFlagDirname("cache")
	c.RegisterFlagCompletionFunc("to", completeDrives)
	return c
}

func runMediaWrite(ctx context.Context, o mediaWriteOptions, g *globals) error {
	answers, err := readMediaAnswers(o.answers)
	if err != nil {
		return err
	}
	if _, err := o.targets(0); err != nil { // what must not be written is known before anything is fetched
		return err
	}
	source, signed, err := openMediaSource(ctx, o.source, o.rootOptions)
	if err != nil {
		return err
	}
	defer func() { source.Close() }()
	targets, err := o.targets(source.Map.Size)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if t.drive != nil {
			if err := o.confirm(*t.drive); err != nil {
				return err
			}
		}
	}
	cache, err := o.cacheDir()
	if err != nil {
		return err
	}
	err = source.Fetch(ctx, cache, g.progress)
	if errors.As(err, new(*medium.MismatchError)) {
		err = &lie{err}
	}
	if err != nil {
		return err
	}
	if err := source.Check(ctx, g.progress); err != nil {
		return err
	}
	a := mediaWriteAnswer{
		Schema: 1, Source: o.source, Name: source.Document.Name, Version: source.Document.Version, Signed: signed,
		Map: source.Document.Medium.Map.SHA256, Size: source.Map.Size,
	}
	if len(answers) > 0 {
		a.Answers = digest.FromBytes(answers)
	}
	a.Media, err = writeTargets(ctx, targets, source, answers, g.progress)
	if err == nil && o.off {
		for _, t := range targets {
			err = errors.Join(err, t.powerOff())
		}
	}
	if g.json {
		return errors.Join(g.printJSON(a), err)
	}
	a.print(g)
	return err
}

// targets finds what the medium is written to, and refuses what must not be.
func (o *mediaWriteOptions) targets(size int64) ([]*target, error) {
	if len(o.to) == 0 && o.output == "" {
		return nil, &codeError{exitUsage, &hintError{
			errors.New("where to? Nothing is chosen by itself"),
			"--to DRIVE (ashlar media drives lists them), or -o FILE",
		}}
	}
	var list []*target
	for _, name := range o.to {
		t, err := o.target(name, size)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	if o.output != "" {
		t, err := fileTarget(o.output)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	paths := map[string]bool{}
	for _, t := range list {
		if paths[t.path] {
			return nil, &codeError{exitUsage, fmt.Errorf("%s is named twice", t.path)}
		}
		paths[t.path] = true
	}
	return list, nil
}

// cacheDir is where downloads are kept.
func (o *mediaWriteOptions) cacheDir() (string, error) {
	if o.cache != "" {
		return o.cache, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("where may downloads be kept? %w; --cache DIR says it", err)
	}
	return filepath.Join(dir, "ashlar", "media"), nil
}

func (a mediaWriteAnswer) print(g *globals) {
	good := slices.ContainsFunc(a.Media, func(w writtenAnswer) bool { return w.Error == "" })
	for _, w := range a.Media {
		if w.Error != "" {
			continue
		}
		text := fmt.Sprintf("%s holds %s %s: %s written and read back", w.Path, a.Name, a.Version, formatBytes(w.Bytes))
		if w.Resumed > 0 {
			text += fmt.Sprintf(" (%s of it were there already)", formatBytes(w.Resumed))
		}
		g.printf("%s\n", text)
	}
	if !good {
		return
	}
	g.printf("signed %s\n", a.Signed)
	if a.Answers != "" {
		g.printf("it installs by itself, by the answers %s; they are not signed\n", a.Answers)
	}
	if strings.HasSuffix(a.Signed.Root.Path, ".json") {
		g.printf("ashlar media verify %s --root %s proves it again at any time\n", a.Media[0].Path, a.Signed.Root.Path)
	}
}

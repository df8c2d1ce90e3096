package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/publish/diskimage"
	"github.com/ashlar-os/ashlar/internal/publish/esp"
	"github.com/ashlar-os/ashlar/internal/registry"
)

type diskOptions struct {
	release       string // reference
	output        string
	size, espSize string
	format, seed  string
	repository    string
	channel       string
	enroll        string // directory with Secure Boot keys
	enrollMode    string
}

// diskAnswer is what --json prints.
type diskAnswer struct {
	Path       string        `json:"path"`
	Format     string        `json:"format"`
	Release    string        `json:"release"` // digest of the release document
	Name       string        `json:"name"`
	Version    string        `json:"version"`
	Image      verity.Digest `json:"image"`
	Repository string        `json:"repository,omitempty"` // where the machine looks for updates
	Channel    string        `json:"channel,omitempty"`
	Enrolls    []string      `json:"enrolls,omitempty"` // subjects of the certificates that the first start enrols
	Size       int64         `json:"size"`              // bytes of the file
	Used       int64         `json:"used"`              // bytes it takes
}

func newDiskCommand(g *globals) *cobra.Command {
	var opts diskOptions
	c := &cobra.Command{
		Use:     "disk RELEASE -o FILE",
		GroupID: "publish",
		Short:   "Write a release as a bootable disk image",
		Long: `Disk writes a disk image that boots under UEFI: in a virtual machine, or on a
computer to whose disk it is copied. It needs no root and no loop devices, and
the file is sparse: it takes what the release takes.

RELEASE is an OCI layout directory as "ashlar build" writes it, or HOST/PATH in
a registry, with :TAG where it holds several releases. Without --size the disk
has room for three images and 1 GiB of data. The first boot seals the objects.

The machine looks for updates at --repository, by default the registry that
RELEASE names, or where the image's recipe says; otherwise "ashlar switch" tells
it later.

With --enroll the first start gives the firmware, where that is in setup mode, the
Secure Boot keys of DIR: by itself in a virtual machine, from the loader's menu on
hardware, and there too, after a countdown, with --enroll-mode force. A release
whose boot file and loader these keys did not sign is refused.

One release gives the same bytes every time. The disks' ids are then the same
too: where two such disks meet in one machine, give one of them a --seed.`,
		Example: `  ashlar disk out/ -o server.raw
  ashlar disk out/:1.2.0 -o server.qcow2 --size 32G --repository registry.example/acme/server
  ashlar disk registry.example/acme/server:stable -o server.raw
  ashlar disk out/ -o server.raw --enroll keys/`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			opts.release = args[0]
			return runDisk(c.Context(), opts, g)
		},
	}
	flags := c.Flags()
	flags.StringVarP(&opts.output, "output", "o", "", "write the disk image to `FILE`")
	flags.StringVar(&opts.size, "size", "", "`SIZE` of the disk, such as 32G")
	flags.StringVar(&opts.espSize, "esp-size", "1G", "`SIZE` of the EFI system partition")
	flags.StringVar(&opts.format, "format", "", "raw or qcow2 (default: as FILE's name ends, or raw)")
	flags.StringVar(&opts.seed, "seed", "", "derive the disk's ids from `TEXT` too")
	flags.StringVar(&opts.repository, "repository", "", "`HOST/PATH` where the machine looks for updates")
	flags.StringVar(&opts.channel, "channel", "", "`NAME` of the channel it follows (default: RELEASE's, or stable)")
	flags.StringVar(&opts.enroll, "enroll", "", "Secure Boot keys of `DIR` for the firmware of the machine")
	flags.StringVar(&opts.enrollMode, "enroll-mode", enrollIfSafe, "`HOW` the loader enrols them: if-safe or force")
	c.MarkFlagRequired("output")
	c.MarkFlagDirname("enroll")
	c.RegisterFlagCompletionFunc("enroll-mode", cobra.FixedCompletions([]string{enrollIfSafe, enrollForce}, cobra.ShellCompDirectiveNoFileComp))
	c.MarkFlagFilename("output", "raw", "qcow2", "img")
	c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{diskimage.Raw, diskimage.QCOW2}, cobra.ShellCompDirectiveNoFileComp))
	c.RegisterFlagCompletionFunc("channel", cobra.FixedCompletions([]string{"stable", "testing"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func runDisk(ctx context.Context, opts diskOptions, g *globals) error {
	o := diskimage.Options{Format: opts.format, Seed: opts.seed, Progress: g.progress}
	var err error
	if o.Size, err = parseSize("size", opts.size); err != nil {
		return err
	}
	if o.ESPSize, err = parseSize("esp-size", opts.espSize); err != nil {
		return err
	}
	if o.Format == "" {
		o.Format = diskimage.Raw
		if filepath.Ext(opts.output) == ".qcow2" {
			o.Format = diskimage.QCOW2
		}
	}
	if o.Enroll, err = readEnroll(opts.enroll, opts.enrollMode); err != nil {
		return err
	}
	repo, tag, err := openRepository(opts.release)
	if err != nil {
		return err
	}
	if o.Origin, err = opts.origin(repo, tag); err != nil {
		return err
	}
	rel, _, err := readRelease(ctx, repo, tag)
	if err != nil {
		return err
	}
	if o.Origin, err = diskimage.WriteRelease(ctx, opts.output, rel, o); err != nil {
		return err
	}
	return g.printDisk(opts.output, rel, o)
}

// readEnroll is what --enroll and --enroll-mode say that the first start gives the firmware.
func readEnroll(dir, mode string) (e esp.Enroll, err error) {
	if err := checkEnrollMode("enroll-mode", mode); err != nil {
		return e, err
	}
	if dir == "" {
		return e, nil
	}
	e.How = mode
	e.Keys, err = readEnrolment(dir)
	return e, err
}

// origin is where the machine will look for updates.
func (opts diskOptions) origin(repo *registry.Repository, tag string) (origin diskimage.Origin, err error) {
	origin.Repository = opts.repository
	if origin.Repository == "" && !strings.HasPrefix(repo.Name, "oci:") {
		origin.Repository = repo.Name
		if strings.HasPrefix(opts.release, "http://") {
			origin.Repository = "http://" + repo.Name // the machine needs that word too
		}
	}
	if origin.Repository == "" {
		if opts.channel != "" {
			return origin, &codeError{exitUsage, fmt.Errorf("channel %q of which repository? name it with --repository", opts.channel)}
		}
		return origin, nil
	}
	if opts.repository != "" {
		_, tag, err := openRepository(opts.repository)
		if err != nil {
			return origin, err
		}
		if tag != "" {
			return origin, &codeError{exitUsage, fmt.Errorf("repository %q: leave %q out, and give it with --channel", opts.repository, tag)}
		}
	}
	switch origin.Channel = opts.channel; {
	case origin.Channel != "":
	case tag != "" && release.CheckChannel(tag) == nil && !strings.Contains(tag, ":"):
		origin.Channel = tag
	default:
		origin.Channel = "stable"
	}
	if err := release.CheckChannel(origin.Channel); err != nil {
		return origin, &codeError{exitUsage, err}
	}
	return origin, nil
}

func (g *globals) printDisk(path string, rel *registry.Release, o diskimage.Options) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	a := diskAnswer{
		Path: path, Format: o.Format, Release: rel.DocumentDigest, Name: rel.Document.Name, Version: rel.Document.Version,
		Image: rel.Document.Root().Digest, Repository: o.Origin.Repository, Channel: o.Origin.Channel,
		Enrolls: enrolls(o.Enroll), Size: info.Size(), Used: info.Sys().(*syscall.Stat_t).Blocks * 512,
	}
	if g.json {
		return g.printJSON(a)
	}
	g.printf("wrote %s: %s %s, %s, %d MiB (%d MiB used)\n", a.Path, a.Name, a.Version, a.Format, a.Size>>20, a.Used>>20)
	g.printf("  image    %s\n  release  %s\n", a.Image, a.Release)
	if a.Repository == "" {
		g.printf("  updates  from nowhere until \"ashlar switch\" says where\n")
	} else {
		g.printf("  updates  from %s:%s\n", a.Repository, a.Channel)
	}
	for _, subject := range a.Enrolls {
		g.printf("  enrolls  %s\n", subject)
	}
	return nil
}

func enrolls(e esp.Enroll) []string {
	if e.Keys == nil {
		return nil
	}
	return subjects(e.Keys.DB)
}

// parseSize reads a number of bytes with K, M, G or T for the powers of 1024.
// An empty text is 0.
func parseSize(flag, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	digits := strings.TrimRight(s, "KMGT")
	shift := 0
	if unit := s[len(digits):]; len(unit) == 1 {
		shift = 10 * (1 + strings.Index("KMGT", unit))
	} else if len(unit) > 1 {
		digits = ""
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > 1<<60>>shift {
		return 0, &codeError{exitUsage, fmt.Errorf("--%s %q is not a size such as 512M, 8G or 1T", flag, s)}
	}
	return n << shift, nil
}

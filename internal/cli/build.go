package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/publish"
	"github.com/ashlar-os/ashlar/internal/publish/compose"
	"github.com/ashlar-os/ashlar/internal/publish/recipe"
	"github.com/ashlar-os/ashlar/internal/registry"
)

type buildOptions struct {
	recipe     string
	out        string
	lock       string
	updateLock bool
	version    string
	channel    string
	previous   string
	cache      string
	init       string
	agent      string
	keys       string // for Secure Boot
	medium     bool
	enroll     string // Secure Boot keys on the medium
	enrollMode string
	passphrase passphraseOptions
}

// buildAnswer is what `ashlar build --json` prints.
type buildAnswer struct {
	ID       string        `json:"id"`
	Out      string        `json:"out"`
	Image    verity.Digest `json:"image"`
	Lock     string        `json:"lock"`
	Packages int           `json:"packages"`
	Objects  int           `json:"objects"`
	Bytes    int64         `json:"bytes"`      // content of all objects
	Pack     int64         `json:"pack_bytes"` // the same, as published
	UKI      int64         `json:"uki_bytes"`

	Medium *release.Medium `json:"medium,omitempty"` // with --medium
}

func newBuildCommand(g *globals) *cobra.Command {
	var o buildOptions
	c := &cobra.Command{
		Use:     "build RECIPE",
		GroupID: "publish",
		Short:   "Make a release from a recipe",
		Long: `Make a release from a recipe: an OCI layout that holds the image, the boot file,
the object pack, the list of software and the release document.

The packages, hashes and ids that were used are written to a lock beside the
recipe. While that lock is there and fits the recipe, the build uses exactly
what it names, and gives the same image digest every time; --update-lock
resolves anew and keeps the ids of users and groups.

With --secureboot-keys the boot file and the loader are signed, for machines whose
firmware knows the keys ("ashlar secureboot"). A signature is the same every time.

With --medium the release carries its install medium: one image that boots from a USB
stick and from a CD, and installs the release without a network. "ashlar media write"
writes it. The image has to hold what an installation needs: the packages
systemd-boot-efi, e2fsprogs and dosfstools, and cryptsetup-bin for encrypted disks.`,
		Example: `  ashlar build recipes/server.toml -o out/
  ashlar build recipes/server.toml -o out/ --update-lock --set-version 1.1.0
  ashlar build recipes/server.toml -o out/ --secureboot-keys keys/
  ashlar build recipes/server.toml -o out/ --medium`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.recipe = args[0]
			return runBuild(c.Context(), o, g)
		},
	}
	flags := c.Flags()
	flags.StringVarP(&o.out, "out", "o", "out", "`DIR`ectory of the OCI layout; releases in it are kept")
	flags.StringVar(&o.lock, "lock", "", "lock `FILE` (default: beside the recipe, RECIPE.lock)")
	flags.BoolVar(&o.updateLock, "update-lock", false, "resolve packages anew and rewrite the lock")
	flags.StringVar(&o.version, "set-version", "", "`VERSION` instead of the recipe's")
	flags.StringVar(&o.channel, "channel", "", "also tag the release with this `CHANNEL`")
	flags.StringVar(&o.previous, "previous", "", "`RELEASE` whose ids must stay (default: the newest of that name in --out)")
	flags.StringVar(&o.cache, "cache", "", "keep packages in this `DIR` (default: the user's cache directory)")
	flags.StringVar(&o.agent, "agent", "", "`FILE` that becomes /usr/bin/ashlar (default: this program)")
	flags.StringVar(&o.init, "init", "", "`FILE` that becomes /init (default: ashlar-init beside this program)")
	flags.BoolVar(&o.medium, "medium", false, "also make the install medium that \"ashlar media write\" writes")
	flags.StringVar(&o.enroll, "enroll", "", "with --medium: Secure Boot keys of `DIR` for the firmware that starts it")
	flags.StringVar(&o.enrollMode, "enroll-mode", enrollIfSafe, "`HOW` the loader enrols them: if-safe or force")
	flags.StringVar(&o.keys, "secureboot-keys", "", "sign the boot file and the loader with the db key of this `DIR`")
	o.passphrase.register(flags)
	c.MarkFlagDirname("secureboot-keys")
	c.MarkFlagDirname("enroll")
	c.RegisterFlagCompletionFunc("enroll-mode", cobra.FixedCompletions([]string{enrollIfSafe, enrollForce}, cobra.ShellCompDirectiveNoFileComp))
	c.ValidArgsFunction = completeFiles("toml")
	return c
}

func runBuild(ctx context.Context, o buildOptions, g *globals) error {
	r, err := recipe.Load(o.recipe)
	if err != nil {
		return err
	}
	if o.version != "" {
		if err := release.CheckVersion(o.version); err != nil {
			return &codeError{exitUsage, fmt.Errorf("--set-version: %w", err)}
		}
		r.Version = o.version
	}
	if o.channel != "" {
		if err := release.CheckChannel(o.channel); err != nil {
			return &codeError{exitUsage, fmt.Errorf("--channel: %w", err)}
		}
	}
	if o.lock == "" {
		o.lock = strings.TrimSuffix(o.recipe, ".toml") + ".lock"
	}
	if err := registry.CheckLayoutDir(o.out); err != nil {
		return &hintError{err, "name a new or an empty directory with --out"}
	}
	// Everything that can be wrong is looked at before the work begins.
	options := publish.Options{
		Recipe: r, Out: o.out, Channel: o.channel, Epoch: time.Now().Unix(),
		Registry: repositoryOptions(), Progress: g.progress,
	}
	if options.CacheDir, err = o.cacheDir(); err != nil {
		return err
	}
	if options.Ashlar, options.Init, err = o.programs(); err != nil {
		return err
	}
	if o.keys != "" {
		if options.Signer, err = secureBootSigner(o.keys, o.passphrase); err != nil {
			return err
		}
	}
	if options.Medium, err = o.mediumOptions(); err != nil {
		return err
	}
	if options.Lock, options.Previous, err = o.readLock(r); err != nil {
		return err
	}
	if options.Released, err = o.released(ctx, r.Name); err != nil {
		return err
	}
	work, err := openWorkspace(o.out)
	if err != nil {
		return fmt.Errorf("making a place to work in: %w", err)
	}
	defer work.close()
	if work.left != nil {
		fmt.Fprintf(g.stderr, "ashlar: %v\n", work.left)
	}
	options.WorkDir = work.dir
	report, err := publish.Build(ctx, options)
	if err != nil {
		return err
	}
	if options.Lock == nil {
		if err := writeLock(o.lock, report.Lock); err != nil {
			return fmt.Errorf("the release is in %q, but its lock could not be written: %w", o.out, err)
		}
	}
	return printBuild(g, o, report)
}

// mediumOptions says what goes on the install medium; nil: there is to be none.
func (o *buildOptions) mediumOptions() (*publish.Medium, error) {
	if !o.medium {
		if o.enroll != "" {
			return nil, &codeError{exitUsage, errors.New("--enroll is for the install medium: give --medium too, or see \"ashlar disk --enroll\"")}
		}
		return nil, nil
	}
	enroll, err := readEnroll(o.enroll, o.enrollMode)
	return &publish.Medium{Enroll: enroll}, err
}

func (o *buildOptions) cacheDir() (string, error) {
	if o.cache != "" {
		return o.cache, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no place to keep packages: %w; name one with --cache", err)
	}
	return filepath.Join(dir, "ashlar"), nil
}

func (o *buildOptions) programs() (agent, init string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", "", err
	}
	agent, init = o.agent, o.init
	if agent == "" {
		agent = self
	}
	if init == "" {
		init = filepath.Join(filepath.Dir(self), "ashlar-init")
	}
	if _, err := os.Stat(init); err != nil {
		return "", "", &hintError{fmt.Errorf("the first process of the new system: %w", err), "name it with --init"}
	}
	if _, err := os.Stat(agent); err != nil {
		return "", "", &hintError{fmt.Errorf("the ashlar of the new system: %w", err), "name it with --agent"}
	}
	return agent, init, nil
}

// readLock returns the lock to build from, or nil and the lock whose ids the
// new one keeps. Where a lock will be written, it makes sure that it can be.
func (o *buildOptions) readLock(r *recipe.Recipe) (lock, previous *recipe.Lock, err error) {
	lock, err = recipe.LoadLock(o.lock)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil, nil, err
	}
	if !missing {
		problem := compose.CheckLock(lock, r)
		if problem != nil && (!o.updateLock || lock.Recipe != r.Name) {
			return nil, nil, fmt.Errorf("%q: %w", o.lock, problem)
		}
		if !o.updateLock {
			return lock, nil, nil
		}
	}
	if err := unix.Access(filepath.Dir(o.lock), unix.W_OK); err != nil {
		return nil, nil, &hintError{fmt.Errorf("the lock %q could not be written: %w", o.lock, err), "name a place for it with --lock"}
	}
	return nil, lock, nil
}

// released finds the release before this one: ids may not change between them.
func (o *buildOptions) released(ctx context.Context, name string) (*release.Document, error) {
	ref := o.previous
	if ref == "" {
		if _, err := os.Stat(filepath.Join(o.out, "oci-layout")); err != nil {
			return nil, nil
		}
		return newestRelease(ctx, o.out, name)
	}
	rel, _, err := openRelease(ctx, ref)
	if err != nil {
		return nil, err
	}
	return rel.Document, nil
}

// newestRelease returns the document of the newest release of that name in a
// layout, or nil.
func newestRelease(ctx context.Context, dir, name string) (*release.Document, error) {
	repo, _, err := registry.Open("oci:"+dir, registry.Options{})
	if err != nil {
		return nil, err
	}
	tags, err := repo.Tags(ctx)
	if err != nil {
		return nil, err
	}
	var newest *release.Document
	for _, tag := range tags {
		if tag == registry.TagTrust {
			continue
		}
		rel, err := repo.ReadRelease(ctx, tag)
		if err != nil {
			return nil, err
		}
		doc := rel.Document
		if doc.Name == name && (newest == nil || release.CompareVersions(doc.Version, newest.Version) > 0) {
			newest = doc
		}
	}
	return newest, nil
}

func writeLock(path string, lock *recipe.Lock) error {
	data, err := lock.Encode()
	if err != nil {
		return err
	}
	return renameio.WriteFile(path, data, 0o644)
}

func printBuild(g *globals, o buildOptions, report *publish.Report) error {
	root := report.Document.Images[0]
	answer := buildAnswer{
		ID: report.Document.ID, Out: o.out, Image: root.Digest, Lock: o.lock, Packages: report.Packages,
		Objects: root.Objects, Bytes: root.Bytes, Pack: report.Layer, UKI: report.Document.UKI.Size,
		Medium: report.Document.Medium,
	}
	for _, note := range report.Notes {
		fmt.Fprintf(g.stderr, "ashlar: %s\n", note)
	}
	if g.json {
		return g.printJSON(answer)
	}
	g.printf("%s  in %s\n", answer.ID, answer.Out)
	g.printf("image     %s\n", answer.Image)
	g.printf("packages  %d, locked in %s\n", answer.Packages, answer.Lock)
	g.printf("objects   %d, %s, %s packed\n", answer.Objects, formatBytes(answer.Bytes), formatBytes(answer.Pack))
	g.printf("boot file %s\n", formatBytes(answer.UKI))
	if m := answer.Medium; m != nil {
		g.printf("medium    %s, %s in use\n", formatBytes(m.Size), formatBytes(m.Blocks.Size))
	}
	return nil
}

// completeFiles completes names of files with one of these extensions.
func completeFiles(extensions ...string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return extensions, cobra.ShellCompDirectiveFilterFileExt
	}
}

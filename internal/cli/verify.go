package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/sysroot"
	"github.com/ashlar-os/ashlar/internal/machine/update"
)

type verifyOptions struct {
	deployment string
	repair     bool
}

// verifyAnswer is what `ashlar verify --json` prints.
type verifyAnswer struct {
	Good     bool            `json:"good"`
	Images   []verity.Digest `json:"images"`
	Objects  int             `json:"objects"`
	Bytes    int64           `json:"bytes"`
	Damaged  []store.Damage  `json:"damaged"`
	Covering []sysroot.Mount `json:"covering"` // mounts that hide a part of the sealed root
	Sealed   bool            `json:"sealed"`
	Boot     bootAnswer      `json:"boot"` // boot files, and how the running system was started

	Signatures []deploymentSignatures `json:"signatures"`

	Repaired []update.Repair `json:"repaired"` // with --repair: what was fetched again
}

// deploymentSignatures is who vouches for one deployment.
type deploymentSignatures struct {
	ID string `json:"id"`
	signatureAnswer
}

func newVerifyCommand(g *globals) *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use:     "verify [DEPLOYMENT]",
		GroupID: "machine",
		Short:   "Measure every byte of the system again, and name what is wrong",
		Long: `Read every byte of the images and objects on this machine and compare it with
what its name promises; look whether anything is mounted over the sealed root,
whether boot files are those of their releases, whether the releases are those
that their publisher signed, as far as this machine has seen that, and whether
the kernel was started with any other parameters.
Exit code 3 and the names of files when something is wrong.

With --repair, images, objects and boot files that are damaged or missing are
fetched again, by their digests, from where their deployment came from, and put
in place of the old ones; then everything is measured again. What the running
system has open it keeps until the next boot.`,
		Example: "  ashlar verify\n  ashlar verify --repair\n  ashlar verify --json | jq .damaged",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.deployment = args[0]
			}
			return runVerify(c.Context(), o, g)
		},
		ValidArgsFunction: completeDeployments,
	}
	c.Flags().BoolVar(&o.repair, "repair", false, "fetch again what is damaged or missing")
	return c
}

func runVerify(ctx context.Context, o verifyOptions, g *globals) error {
	m, unlock, err := openToVerify(o)
	if err != nil {
		return err
	}
	defer unlock()
	s, images, unseen, err := imagesToVerify(m, o.deployment)
	if err != nil {
		return err
	}
	report, err := m.Store.Verify(ctx, images, g.progress)
	if err != nil {
		return err
	}
	repaired := []update.Repair{}
	if o.repair && unseen == nil {
		r := repairer{m: m, images: images, s: s, report: report}
		unseen = r.run(ctx, g)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s, report, repaired = r.s, r.report, append(repaired, r.done...)
	}
	answer := verifyAnswer{
		Images: images, Objects: report.Objects, Bytes: report.Bytes, Damaged: report.Damaged,
		Covering: []sysroot.Mount{}, Repaired: repaired,
	}
	if answer.Damaged == nil {
		answer.Damaged = []store.Damage{}
	}
	mounts, err := readMounts()
	if err != nil {
		return err
	}
	answer.Sealed = sysroot.Sealed(mounts)
	if answer.Sealed {
		answer.Covering = append(answer.Covering, sysroot.Covering(mounts)...)
	}
	answer.Boot = checkBoot(m, s, images)
	answer.Signatures = checkSignatures(m, s, images)
	answer.Good = unseen == nil && len(unvouched(answer.Signatures)) == 0 && len(answer.Boot.faults()) == 0 && len(answer.Damaged) == 0 && len(answer.Covering) == 0 && (answer.Sealed || m.Running.IsZero())
	if g.json {
		err = g.printJSON(answer)
	} else {
		printVerify(g, answer)
	}
	if err == nil && !answer.Good {
		return &codeError{exitDamaged, unseen}
	}
	return err
}

// checkSignatures looks again, without asking anybody, who vouches for deployments.
func checkSignatures(m *update.Machine, s *update.State, images []verity.Digest) []deploymentSignatures {
	list := []deploymentSignatures{}
	vouches, _ := m.Vouches(s)
	for i := range s.Deployments {
		d := &s.Deployments[i]
		if v, ok := vouches[d]; ok && slices.Contains(images, d.Image) {
			list = append(list, deploymentSignatures{d.ID(), describeVouch(v)})
		}
	}
	return list
}

func unvouched(list []deploymentSignatures) (bad []deploymentSignatures) {
	for _, d := range list {
		if d.State == update.Unvouched {
			bad = append(bad, d)
		}
	}
	return bad
}

// imagesToVerify lists the images of the deployment that word names, or of all, in the
// state that it saw.
// Where the boot entries cannot be read, unseen says why, and the images are all
// of the store's: whatever hides the one must not keep the rest from being measured.
func imagesToVerify(m *update.Machine, word string) (s *update.State, images []verity.Digest, unseen, err error) {
	s, err = m.Look()
	if err != nil {
		survey, surveyErr := m.Store.Survey()
		if surveyErr != nil || word != "" {
			return nil, nil, nil, err
		}
		return &update.State{}, survey.Images, err, nil
	}
	if word != "" {
		d, err := s.Find(word)
		if err != nil {
			return nil, nil, nil, err
		}
		if d.Remembered() {
			return nil, nil, nil, fmt.Errorf("%s was cleared away; there is nothing to verify", d.ID())
		}
		return s, []verity.Digest{d.Image}, nil, nil
	}
	for i := range s.Deployments {
		if d := &s.Deployments[i]; !d.Remembered() {
			images = append(images, d.Image)
		}
	}
	for _, broken := range s.Broken {
		images = append(images, broken.Image)
	}
	return s, images, nil, nil
}

func printVerify(g *globals, answer verifyAnswer) {
	for _, r := range answer.Repaired {
		printRepair(g, r)
	}
	for _, d := range answer.Damaged {
		var paths []string
		for _, use := range d.UsedBy {
			for _, path := range use.Paths {
				paths = append(paths, path+" of "+use.Image.Short())
			}
		}
		if len(paths) == 0 {
			g.printf("damaged %s %s: %s\n", d.Kind, d.Digest, d.Reason)
		} else {
			g.printf("damaged %s: %s (%s %s)\n", strings.Join(paths, ", "), d.Reason, d.Kind, d.Digest.Short())
		}
	}
	for _, m := range answer.Covering {
		g.printf("covered %s: %s %q is mounted over it\n", m.Point, m.Type, m.Source)
	}
	for _, d := range unvouched(answer.Signatures) {
		g.printf("not vouched for %s: %s\n", d.ID, d.Reason)
	}
	for _, f := range answer.Boot.faults() {
		g.printf("%s: %s\n", f.word, f.text)
	}
	if !answer.Sealed {
		g.printf("not sealed: the root is not an image that the kernel checks\n")
	}
	verdict := "good"
	if !answer.Good {
		verdict = "NOT GOOD"
	}
	g.printf("%s: %d images, %d objects, %s read and measured\n", verdict, len(answer.Images), answer.Objects, formatBytes(answer.Bytes))
}

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/media"
	"github.com/ashlar-os/ashlar/internal/media/drive"
)

type mediaRestoreOptions struct {
	drive  string
	system string
	label  string
	off    bool
	serialOptions
}

// mediaRestoreAnswer is what `ashlar media restore --json` prints.
type mediaRestoreAnswer struct {
	Schema int    `json:"schema"` // 1
	Drive  string `json:"drive"`
	System string `json:"system"`
	Label  string `json:"label"`
	media.Written
}

func newMediaRestoreCommand(g *globals) *cobra.Command {
	var o mediaRestoreOptions
	c := &cobra.Command{
		Use:   "restore DRIVE",
		Short: "Make an ordinary empty drive of a medium",
		Long: `Write a new partition table with one partition and an empty file system: what a
stick is when it is bought. Everything on the drive is lost. What was written is
read back.

FAT32 is read by everything, but a file in it has less than 4 GiB; --fs exfat
takes larger ones, and needs mkfs.exfat.

What must not be written is refused, as "ashlar media write" does, and before
anything happens the drive's name is asked for.`,
		Example: `  sudo ashlar media restore /dev/sdb
  sudo ashlar media restore /dev/sdb --fs exfat --label PHOTOS`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeDrives,
		RunE: func(c *cobra.Command, args []string) error {
			o.drive = args[0]
			return runMediaRestore(c.Context(), o, g)
		},
	}
	o.register(c)
	c.Flags().StringVar(&o.system, "fs", media.FAT32, "the file system: `NAME` is fat32 or exfat")
	c.Flags().StringVar(&o.label, "label", "USB", "`NAME` of the drive, as computers show it")
	c.Flags().BoolVar(&o.off, "power-off", false, "end its power when it is done, so that it can be taken out")
	c.RegisterFlagCompletionFunc("fs", cobra.FixedCompletions([]string{media.FAT32, media.ExFAT}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func runMediaRestore(ctx context.Context, o mediaRestoreOptions, g *globals) error {
	if o.system != media.FAT32 && o.system != media.ExFAT {
		return &codeError{exitUsage, fmt.Errorf("--fs is %q: %s or %s", o.system, media.FAT32, media.ExFAT)}
	}
	if err := checkLabel(o.label); err != nil {
		return &codeError{exitUsage, err}
	}
	d, err := o.wantDrive(o.drive, drive.Wish{})
	if err != nil {
		return err
	}
	if err := o.confirm(d); err != nil {
		return err
	}
	dev, err := drivesHost().Open(d)
	if err != nil {
		return err
	}
	defer dev.Close()
	written, err := media.Restore(ctx, dev, media.RestoreOptions{Name: d.Path, Sector: d.Sector, System: o.system, Label: o.label}, g.progress)
	if err != nil {
		return err
	}
	if err := dev.Close(); err != nil {
		return err
	}
	if o.off {
		if err := drivesHost().PowerOff(d); err != nil {
			return err
		}
	}
	if g.json {
		return g.printJSON(mediaRestoreAnswer{Schema: 1, Drive: d.Path, System: o.system, Label: o.label, Written: written})
	}
	g.printf("%s is an ordinary empty drive of %s (%s, %q)\n", d.Path, formatBytes(d.Size), o.system, o.label)
	return nil
}

// checkLabel takes what every file system does: FAT has the narrowest rule.
func checkLabel(label string) error {
	if label == "" || len(label) > 11 {
		return fmt.Errorf("--label %q: want 1 to 11 characters", label)
	}
	for _, r := range label {
		if !('A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_' || r == '-') {
			return fmt.Errorf("--label %q: want capital letters, digits, _ and -", label)
		}
	}
	return nil
}

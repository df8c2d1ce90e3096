package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/media/drive"
)

func newMediaCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "media",
		GroupID: "publish",
		Short:   "Sticks and images that install a release, and prove what is on them",
		Long: `A medium holds a whole release: what starts the live system, the installer, and
the system itself. "media write" writes one that is signed, and reads it back;
"media verify" tells at any time, on any machine, whether it is still exactly
what was signed; "media restore" makes an ordinary empty drive of it again.`,
		Example: `  ashlar media drives
  sudo ashlar media write registry.example/acme/desktop:stable --root acme-root.json --to /dev/sdb
  sudo ashlar media verify /dev/sdb --root acme-root.json
  sudo ashlar media restore /dev/sdb`,
	}
	c.AddCommand(newMediaDrivesCommand(g), newMediaWriteCommand(g), newMediaVerifyCommand(g), newMediaRestoreCommand(g))
	return c
}

// drivesHost is the computer whose drives are meant.
func drivesHost() drive.Host { return drive.Host{Root: machineRoot()} }

// serialOptions name drives by their serial numbers, where their names are not enough.
type serialOptions struct {
	serials []string
	yes     bool
}

func (o *serialOptions) register(c *cobra.Command) {
	c.Flags().StringArrayVar(&o.serials, "serial", nil, "also take a large or built-in drive: the one with serial number `TEXT`")
	c.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask for the drive's name before everything on it is lost")
	c.RegisterFlagCompletionFunc("serial", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		list, _ := drivesHost().Drives()
		var words []string
		for _, d := range list {
			if d.Serial != "" {
				words = append(words, d.Serial+"\t"+d.Path+" "+d.Model)
			}
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	})
}

// wantDrive finds a drive that a person named, and sees that it may be overwritten.
func (o *serialOptions) wantDrive(name string, w drive.Wish) (drive.Drive, error) {
	d, err := drivesHost().Find(name)
	if err != nil {
		return d, err
	}
	w.Serials = o.serials
	return d, drivesHost().Judge(d, w)
}

// confirm shows a drive, and asks for its name: whoever types that has read it.
func (o *serialOptions) confirm(d drive.Drive) error {
	if o.yes {
		return nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return &hintError{
			fmt.Errorf("everything on %s would be lost, and there is no terminal to ask at", d.Path),
			"--yes says that it is the right one",
		}
	}
	defer tty.Close()
	return askForName(tty, d)
}

// errNotNamed: nothing was done.
var errNotNamed = errors.New("nothing was written: the name that was typed is another one")

func askForName(tty io.ReadWriter, d drive.Drive) error {
	fmt.Fprintf(tty, "%s  %s\n  holds  %s\n", d.Path, driveTitle(d), driveContent(d))
	fmt.Fprintf(tty, "Everything on it will be lost. Type its name, %s, to go on: ", d.Name)
	var typed string
	if _, err := fmt.Fscanln(tty, &typed); err != nil {
		fmt.Fprintln(tty)
		return errNotNamed
	}
	if typed != d.Name && typed != d.Path {
		return errNotNamed
	}
	return nil
}

// driveTitle is what a drive is, in one line: what is printed on it, as far as possible.
func driveTitle(d drive.Drive) string {
	words := []string{}
	for _, w := range []string{d.Model, d.Transport, formatBytes(d.Size)} {
		if w != "" {
			words = append(words, w)
		}
	}
	if d.Serial != "" {
		words = append(words, "serial number "+d.Serial)
	}
	return strings.Join(words, ", ")
}

// driveContent is what is on a drive, in one line.
func driveContent(d drive.Drive) string {
	var parts []string
	for _, p := range d.Partitions {
		switch {
		case p.Content != "":
			parts = append(parts, p.Content)
		case p.Label != "":
			parts = append(parts, fmt.Sprintf("%q", p.Label))
		default:
			parts = append(parts, "something unknown")
		}
	}
	switch {
	case d.Size == 0:
		return "there is no card or disk in it"
	case d.Content == "" && len(parts) == 0:
		return "it cannot be read, or not by you"
	case strings.HasPrefix(d.Content, "an Ashlar medium"), len(parts) == 0:
		return d.Content
	}
	return countOf(len(parts), "partition") + ": " + strings.Join(parts, ", ")
}

// completeDrives completes with the drives that can be taken out.
func completeDrives(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	list, _ := drivesHost().Drives()
	var words []string
	for _, d := range list {
		if d.Removable && d.Size > 0 {
			words = append(words, d.Path+"\t"+driveTitle(d))
		}
	}
	return words, cobra.ShellCompDirectiveDefault
}

package cli

import (
	"io"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// eachCommand calls do for every command that is Ashlar's own.
func eachCommand(t *testing.T, do func(t *testing.T, c *cobra.Command)) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		t.Run(c.CommandPath(), func(t *testing.T) { do(t, c) })
		for _, child := range c.Commands() {
			walk(child)
		}
	}
	walk(newRootCommand(&globals{stdout: io.Discard, stderr: io.Discard}))
}

// TestHelpIsComplete: nobody has to guess what a command or a flag does.
func TestHelpIsComplete(t *testing.T) {
	eachCommand(t, func(t *testing.T, c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || !unicode.IsUpper(rune(c.Short[0])) {
			t.Errorf("Short is %q: want one line that begins with a capital and ends without a stop", c.Short)
		}
		if c.Long == "" {
			t.Error("it has no Long help")
		}
		for _, line := range strings.Split(c.Long+"\n"+c.Example, "\n") {
			if len([]rune(line)) > 100 {
				t.Errorf("a line of its help is too long for a terminal: %q", line)
			}
		}
		if c.Example == "" {
			t.Error("it has no example")
		}
		if c.HasParent() && !c.Parent().HasParent() && c.GroupID == "" && !c.Hidden {
			t.Error("it is in no group")
		}
		takesArguments := c.ValidateArgs([]string{"x"}) == nil || c.ValidateArgs([]string{"x", "y"}) == nil
		if takesArguments && c.ValidArgsFunction == nil {
			t.Errorf("it completes no arguments, and takes some: %q", c.Use)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || strings.HasSuffix(f.Usage, ".") {
				t.Errorf("--%s is described as %q", f.Name, f.Usage)
			}
		})
	})
}

// TestExamplesParse: every example names a command that there is, with flags
// and arguments that it takes.
func TestExamplesParse(t *testing.T) {
	eachCommand(t, func(t *testing.T, c *cobra.Command) {
		own := 0
		for _, line := range strings.Split(c.Example, "\n") {
			words := strings.Fields(line)
			for i := 0; i < len(words); i++ {
				if words[i] != "ashlar" || i > 0 && words[i-1] != "|" && words[i-1] != "sudo" {
					continue
				}
				args := words[i+1:]
				if end := slices.IndexFunc(args, func(w string) bool {
					return strings.HasPrefix(w, "|") || strings.HasPrefix(w, ">") || strings.HasPrefix(w, "#")
				}); end >= 0 {
					args = args[:end]
				}
				root := newRootCommand(&globals{stdout: io.Discard, stderr: io.Discard})
				found, rest, err := root.Find(args)
				if err != nil {
					t.Errorf("%q: %v", line, err)
					continue
				}
				if err := found.ParseFlags(rest); err != nil {
					t.Errorf("%q: %v", line, err)
				}
				if err := found.ValidateArgs(found.Flags().Args()); err != nil {
					t.Errorf("%q: %v", line, err)
				}
				if err := found.ValidateRequiredFlags(); err != nil {
					t.Errorf("%q: %v", line, err)
				}
				if strings.HasPrefix(found.CommandPath()+" ", c.CommandPath()+" ") {
					own++
				}
			}
		}
		if own == 0 {
			t.Errorf("no example is of the command itself:\n%s", c.Example)
		}
	})
}

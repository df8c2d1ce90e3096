package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/trust"
)

type keysSignOptions struct {
	request    string // a file
	keys       string // a directory
	output     string // "": the request itself
	yes        bool
	passphrase passphraseOptions
}

// keysSignAnswer is what `ashlar keys sign --json` prints.
type keysSignAnswer struct {
	Request    string   `json:"request"`
	Output     string   `json:"output"`
	Repository string   `json:"repository,omitempty"` // none for a root
	Changes    []string `json:"changes"`              // what was signed, in sentences
	Missing    []string `json:"missing"`              // who has to sign as well; nobody: it can go back
}

func newKeysSignCommand(g *globals) *cobra.Command {
	var o keysSignOptions
	c := &cobra.Command{
		Use:   "sign REQUEST",
		Short: "Sign a request, with keys that are kept elsewhere",
		Long: `Show in words what a request asks for, and after a yes sign it with the keys of
--keys. The words are made from what is signed, not taken from the file; the request
must follow from the root.json that is in the directory already. No network is used.

The signatures are written into REQUEST, or to -o. It then goes to the next holder,
or back to who wrote it with --out, for --in.`,
		Example: `  ashlar keys sign request.json --keys offline/
  ashlar keys sign request.json --keys offline/ -o signed.json --yes`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []string{"json"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.request = args[0]
			return runKeysSign(c.Context(), o, g)
		},
	}
	flags := c.Flags()
	flags.StringVar(&o.keys, "keys", "", "sign with the keys of `DIR`")
	flags.StringVarP(&o.output, "output", "o", "", "write to `FILE` and not into the request")
	flags.BoolVar(&o.yes, "yes", false, "do not ask")
	o.passphrase.register(flags)
	c.MarkFlagRequired("keys")
	c.MarkFlagDirname("keys")
	c.MarkFlagFilename("output", "json")
	return c
}

func runKeysSign(ctx context.Context, o keysSignOptions, g *globals) error {
	keys, err := openKeys(o.keys, o.passphrase)
	if err != nil {
		return err
	}
	request, err := readRequest(o.request)
	if err != nil {
		return err
	}
	if err := request.Verify(keys); err != nil {
		return requestError(o.request, err)
	}
	if !o.yes {
		if err := g.consent(request); err != nil {
			return err
		}
	}
	before, err := request.Encode()
	if err != nil {
		return err
	}
	if err := trust.SignRequest(ctx, request, keys); err != nil {
		return requestError(o.request, err)
	}
	after, err := request.Encode()
	if err != nil {
		return err
	}
	missing, err := request.Missing()
	if err != nil {
		return requestError(o.request, err)
	}
	if string(before) == string(after) && len(missing) > 0 {
		return requestError(o.request, fmt.Errorf("%q holds no key whose signature is missing: %s", o.keys, strings.Join(missing, "; ")))
	}
	a := keysSignAnswer{Request: o.request, Output: o.output, Repository: request.Repository, Changes: request.Summary, Missing: missing}
	if a.Output == "" {
		a.Output = o.request
	}
	if a.Missing == nil {
		a.Missing = []string{}
	}
	if err := writeRequest(a.Output, request); err != nil {
		return err
	}
	return g.printSigned(a, o.yes)
}

// consent shows what would be signed, and asks.
func (g *globals) consent(request *trust.Request) error {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return &hintError{errors.New("there is no terminal to ask at"), "--yes signs without a question"}
	}
	defer tty.Close()
	of := "the next root, for every repository"
	if request.Repository != "" {
		of = "the repository " + printable(request.Repository)
	}
	fmt.Fprintf(tty, "This is about %s. What you sign:\n", of)
	for _, line := range request.Summary {
		fmt.Fprintf(tty, "  %s\n", printable(line))
	}
	fmt.Fprint(tty, "Sign it? [y/N] ")
	answer, err := bufio.NewReader(tty).ReadString('\n')
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if word := strings.ToLower(strings.TrimSpace(answer)); word != "y" && word != "yes" {
		return errors.New("nothing was signed")
	}
	return nil
}

func (g *globals) printSigned(a keysSignAnswer, unasked bool) error {
	if g.json {
		return g.printJSON(a)
	}
	if unasked {
		for _, line := range a.Changes {
			g.printf("  %s\n", printable(line))
		}
	}
	g.printf("signed %s\n", a.Output)
	for _, line := range a.Missing {
		g.printf("missing: %s\n", line)
	}
	if len(a.Missing) == 0 {
		g.printf("nothing is missing: --in %s goes on with it\n", a.Output)
	}
	return nil
}

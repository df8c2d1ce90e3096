package cli

import (
	"crypto/x509"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/image/authenticode"
	"github.com/ashlar-os/ashlar/internal/publish/secureboot"
	"github.com/ashlar-os/ashlar/internal/trust"
)

func newSecureBootCommand(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:     "secureboot",
		GroupID: "publish",
		Short:   "Keys with which firmware tells your systems from others",
		Long: `Secure Boot makes a machine's firmware start only loaders and boot files that are
signed by a key it knows. These commands make such keys, and give them to machines.

A publisher's key directory holds them in secureboot/: the platform key PK, the
key exchange key KEK, and db, which signs. "ashlar build --secureboot-keys" signs
with db; "ashlar disk --enroll" makes disks whose first start enrols all three.`,
		Example: `  ashlar secureboot init keys/
  ashlar build recipes/server.toml -o out/ --secureboot-keys keys/`,
	}
	c.AddCommand(newSecureBootInitCommand(g), newSecureBootAllowCommand(g), newSecureBootEnrollCommand(g))
	return c
}

type secureBootInitOptions struct {
	dir        string
	name       string
	bits       int
	passphrase passphraseOptions
}

// secureBootKeys is what `ashlar secureboot init --json` and `allow` print.
type secureBootKeys struct {
	Dir string   `json:"dir"`
	DB  []string `json:"db"` // subjects of the certificates whose programs start
}

func newSecureBootInitCommand(g *globals) *cobra.Command {
	var o secureBootInitOptions
	c := &cobra.Command{
		Use:   "init DIR",
		Short: "Make Secure Boot keys",
		Long: `Make PK, KEK and db in DIR/secureboot: RSA keys closed by one passphrase, their
certificates, and the signed variables that firmware takes (.auth). Keys that are
there already are left alone.

Who has db.key can make boot files that your machines start; who has PK.key or
KEK.key can change what they start. Only db.key is needed to build. Losing them
locks nobody out: firmware's own settings can always clear its keys.`,
		Example:           "  ashlar secureboot init keys/ --name Acme",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeDirectory,
		RunE: func(_ *cobra.Command, args []string) error {
			o.dir = args[0]
			return runSecureBootInit(o, g)
		},
	}
	c.Flags().StringVar(&o.name, "name", "Ashlar", "`NAME` in the certificates, such as your company's")
	c.Flags().IntVar(&o.bits, "bits", 2048, "`SIZE` of the RSA keys: 2048, 3072 or 4096; old firmware knows only 2048")
	o.passphrase.register(c.Flags())
	return c
}

func runSecureBootInit(o secureBootInitOptions, g *globals) error {
	keys := filepath.Join(o.dir, secureboot.Directory)
	words, err := o.passphrase.of(trust.Ask{File: keys, Role: "PK, KEK and db", New: true})()
	if err != nil {
		return err
	}
	err = secureboot.Init(o.dir, secureboot.InitOptions{Name: o.name, Bits: o.bits, Now: time.Now(), Passphrase: words})
	if err != nil {
		return err
	}
	return printSecureBootKeys(o.dir, g)
}

type secureBootAllowOptions struct {
	dir          string
	certificates []string
	only         bool
	passphrase   passphraseOptions
}

func newSecureBootAllowCommand(g *globals) *cobra.Command {
	var o secureBootAllowOptions
	c := &cobra.Command{
		Use:   "allow DIR CERTIFICATE...",
		Short: "Add certificates to those whose programs machines start",
		Long: `Add certificates, PEM or DER, to DIR/secureboot/db.auth, signed with KEK.key.
Machines that enrol it start what these certificates sign as well: the next db
key, before releases are signed with it, or that of a hardware vendor's firmware
(option ROMs). With --only what was there before starts no more. Machines with the
older db take the new one with "ashlar secureboot enroll".`,
		Example: `  ashlar secureboot allow keys/ next/secureboot/db.crt
  ashlar secureboot allow keys/ next/secureboot/db.crt --only`,
		Args: cobra.MinimumNArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return []string{"crt", "pem", "der", "cer"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(_ *cobra.Command, args []string) error {
			o.dir, o.certificates = args[0], args[1:]
			return runSecureBootAllow(o, g)
		},
	}
	c.Flags().BoolVar(&o.only, "only", false, "let these certificates take the place of those that are there")
	o.passphrase.register(c.Flags())
	return c
}

func runSecureBootAllow(o secureBootAllowOptions, g *globals) error {
	var certs []*x509.Certificate
	for _, path := range o.certificates {
		cert, err := secureboot.ReadCertificate(path)
		if err != nil {
			return err
		}
		certs = append(certs, cert)
	}
	ask := trust.Ask{File: filepath.Join(o.dir, secureboot.Directory, "KEK.key"), Role: "KEK"}
	if err := secureboot.Allow(o.dir, certs, secureboot.AllowOptions{
		Only: o.only, Now: time.Now(), Passphrase: o.passphrase.of(ask),
	}); err != nil {
		return err
	}
	return printSecureBootKeys(o.dir, g)
}

func printSecureBootKeys(dir string, g *globals) error {
	e, err := readEnrolment(dir)
	if err != nil {
		return err
	}
	answer := secureBootKeys{Dir: filepath.Join(dir, secureboot.Directory), DB: subjects(e.DB)}
	if g.json {
		return g.printJSON(answer)
	}
	g.printf("keys  %s\n", answer.Dir)
	for _, subject := range answer.DB {
		g.printf("db    %s\n", subject)
	}
	return nil
}

// secureBootSigner opens db.key of a publisher's key directory.
func secureBootSigner(dir string, passphrase passphraseOptions) (*authenticode.Signer, error) {
	ask := trust.Ask{File: filepath.Join(dir, secureboot.Directory, "db.key"), Role: "db"}
	return secureboot.Signer(dir, "db", passphrase.of(ask))
}

// completeDirectory completes one argument with directories.
func completeDirectory(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

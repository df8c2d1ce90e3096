package sysroot

import (
	"fmt"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// parameters are what the first process takes from the kernel command line.
type parameters struct {
	image  verity.Digest // ashlar.image=
	medium string        // ashlar.medium=: root hash of the payload; "": not on a medium
	quiet  bool          // the kernel's own word: nothing but failures on the console
}

// parseCmdline reads /proc/cmdline. The image has to be named exactly once: a
// second name would leave open which one was signed.
func parseCmdline(line string) (parameters, error) {
	var p parameters
	found := false
	for _, word := range splitCmdline(line) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "quiet":
			p.quiet = true
		case "ashlar.image":
			if found {
				return p, fmt.Errorf("the kernel command line names an image twice")
			}
			d, err := verity.Parse(value)
			if err != nil {
				return p, fmt.Errorf("the kernel command line has a bad ashlar.image=: %w", err)
			}
			p.image, found = d, true
		case medium.Argument:
			if p.medium != "" {
				return p, fmt.Errorf("the kernel command line names a medium twice")
			}
			hash, err := verity.Parse(value) // a digest like any other
			if err != nil {
				return p, fmt.Errorf("the kernel command line has a bad %s=: %w", key, err)
			}
			p.medium = hash.String()
		}
	}
	if !found {
		return p, fmt.Errorf("the kernel command line names no image (ashlar.image=)")
	}
	return p, nil
}

// splitCmdline splits at spaces outside double quotes, as the kernel does.
func splitCmdline(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t' || r == '\n')
	})
}

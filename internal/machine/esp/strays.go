package esp

import (
	"path/filepath"
	"slices"
	"strings"
)

// strayPatterns are the places, besides EFI/Linux, in which loader and stub look
// for something to start or to give to what they start: entries of their own,
// addons with kernel parameters, credentials, extensions
// (https://uapi-group.org/specifications/specs/boot_loader_specification/,
// systemd-stub(7)). Ashlar puts nothing there.
var strayPatterns = []string{
	"loader/entries/*.conf",
	"loader/addons/*",
	"loader/credentials/*",
	"EFI/Linux/*.extra.d/*",
}

// Strays lists what loader or stub would take up and belongs to no release, as
// paths on the ESP.
func (p *ESP) Strays() []string {
	list := []string{}
	for _, pattern := range strayPatterns {
		found, _ := filepath.Glob(filepath.Join(escape(p.Dir), filepath.FromSlash(pattern))) // the pattern is a good one
		for _, path := range found {
			if relative, err := filepath.Rel(p.Dir, path); err == nil {
				list = append(list, relative)
			}
		}
	}
	slices.Sort(list)
	return list[:min(len(list), maxEntries)]
}

// escape makes a path match itself.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

package cli

import "github.com/ashlar-os/ashlar/internal/image/release"

// version is what `ashlar --version` prints.
func version() string { return release.BuilderVersion }

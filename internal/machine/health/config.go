package health

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// ConfigPath is where the image says what it calls healthy.
const ConfigPath = "/usr/lib/ashlar/health.toml"

// DefaultTimeout is how long one check may take where the image does not say.
const DefaultTimeout = 60 * time.Second

const (
	maxConfig = 64 << 10 // bytes of health.toml
	maxUnits  = 1000
)

// Config is health.toml.
type Config struct {
	Units   []string `toml:"units"`   // that must not have failed
	Network bool     `toml:"network"` // there has to be a default route
	Timeout int      `toml:"timeout"` // seconds that one check may take
}

// ReadConfig reads health.toml of the system below root. An image without one
// requires nothing but its default target.
func ReadConfig(root string) (Config, error) {
	c := Config{Timeout: int(DefaultTimeout.Seconds())}
	f, err := os.Open(filepath.Join(root, ConfigPath))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("reading what the image calls healthy: %w", err)
	}
	defer f.Close()
	var text bytes.Buffer
	if n, err := text.ReadFrom(&limited{f, maxConfig}); err != nil {
		return c, fmt.Errorf("reading %q after %d bytes: %w", ConfigPath, n, err)
	}
	if err := c.decode(text.Bytes()); err != nil {
		return c, fmt.Errorf("reading %q: %w", ConfigPath, err)
	}
	return c, nil
}

func (c *Config) decode(text []byte) error {
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(c); err != nil {
		return err
	}
	switch {
	case c.Timeout < 1 || c.Timeout > 3600:
		return fmt.Errorf("timeout: %d is not 1 to 3600 seconds", c.Timeout)
	case len(c.Units) > maxUnits:
		return fmt.Errorf("units: more than %d", maxUnits)
	}
	for _, unit := range c.Units {
		if unit == "" || unit[0] == '-' || len(unit) > 255 {
			return fmt.Errorf("units: %q is no unit", unit)
		}
	}
	return nil
}

// limited fails where there is more to read than the limit.
type limited struct {
	f    *os.File
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.f.Read(p)
	if l.left -= n; l.left < 0 {
		return 0, errors.New("it is too long")
	}
	return n, err
}

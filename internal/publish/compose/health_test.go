package compose

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/publish/recipe"
)

// composeHealth makes a tree with the agent in it, from a recipe's health.
func composeHealth(t *testing.T, h recipe.Health) (*tree.Tree, error) {
	t.Helper()
	r := &recipe.Recipe{Name: "t", Version: "1", Health: h, Services: recipe.Services{Enabled: []string{"web.service"}}}
	b, tr := newBuilder(t, r, "/usr/bin/systemctl x", "/usr/lib/systemd/system/web.service [Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
	agent := filepath.Join(t.TempDir(), "ashlar")
	if err := os.WriteFile(agent, []byte("the agent"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.o.Agent.Ashlar = agent
	return tr, errors.Join(b.addAgent(tr), b.setServices(tr))
}

func TestHealthDefaults(t *testing.T) {
	tr, err := composeHealth(t, recipe.Health{})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/usr/lib/ashlar/health.toml":                   "units = ['web.service']\nnetwork = false\ntimeout = 60\n",
		"/usr/lib/systemd/system.conf.d/50-ashlar.conf": "[Manager]\nCrashReboot=yes\nRuntimeWatchdogSec=60\n",
	} {
		if got := contentOf(t, tr, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	links := strings.Join(targets(tr, "/etc/systemd/system"), "\n")
	for _, want := range []string{
		"/boot-complete.target.requires/ashlar-health.service -> /usr/lib/systemd/system/ashlar-health.service",
		"/boot-complete.target.requires/ashlar-steady.service -> ",
		"/emergency.target.wants/ashlar-health-failed.service -> ",
		"/sysinit.target.wants/ashlar-watchdog.service -> ",
	} {
		if !strings.Contains(links, want) {
			t.Errorf("no %q in\n%s", want, links)
		}
	}
	if tr.Lookup("/usr/lib/systemd/system/ashlar-health.service.d") != nil {
		t.Error("it waits for the network")
	}
}

func TestHealthOfARecipe(t *testing.T) {
	check := filepath.Join(t.TempDir(), "answers")
	if err := os.WriteFile(check, []byte("#!/bin/sh\nexit 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	yes, zero, five := true, 0, 5
	tr, err := composeHealth(t, recipe.Health{
		Units: []string{"web.service", "ashlar-booted.service"}, Network: &yes, Checks: []string{check}, Timeout: &five, Watchdog: &zero,
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/usr/lib/ashlar/health.toml":                                  "units = ['web.service', 'ashlar-booted.service']\nnetwork = true\ntimeout = 5\n",
		"/usr/lib/systemd/system.conf.d/50-ashlar.conf":                "[Manager]\nCrashReboot=yes\n",
		"/usr/lib/systemd/system/ashlar-health.service.d/network.conf": "[Unit]\nWants=network-online.target\nAfter=network-online.target\n",
		"/usr/lib/ashlar/health.d/answers":                             "#!/bin/sh\nexit 0\n",
	} {
		if got := contentOf(t, tr, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if n := tr.Lookup("/usr/lib/ashlar/health.d/answers"); n.Mode&tree.PermMask != 0o755 {
		t.Errorf("the check has the mode %o", n.Mode)
	}
}

func TestHealthRefuses(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("exit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for want, h := range map[string]recipe.Health{
		`"gone.service": there is no such unit`: {Units: []string{"gone.service"}},
		"it is no program":                      {Checks: []string{text}},
		"it is no regular file":                 {Checks: []string{filepath.Dir(text)}},
		"no such file":                          {Checks: []string{text + "-gone"}},
	} {
		if _, err := composeHealth(t, h); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v gave %v, want %q", h, err, want)
		}
	}
}

// TestUnitsWaitForTheStart: what comes after boot-complete.target also comes after the
// start, or systemd would break the cycle by leaving one of them out.
func TestUnitsWaitForTheStart(t *testing.T) {
	list, err := unitFiles.ReadDir("units")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		text, err := unitFiles.ReadFile("units/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "WantedBy=multi-user.target") || !strings.Contains(string(text), "After=boot-complete.target") {
			continue
		}
		if !strings.Contains(string(text), "default.target graphical.target multi-user.target\n") {
			t.Errorf("%s is part of the start and waits for its end", e.Name())
		}
	}
}

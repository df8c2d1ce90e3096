package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPeriods(t *testing.T) {
	for text, want := range map[period]time.Duration{
		"": 0, "1s": time.Second, "90m": 90 * time.Minute, "12h": 12 * time.Hour, "7d": 168 * time.Hour, "2w": 336 * time.Hour, "20y": maxPeriod,
	} {
		if got, err := text.duration(); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if text != "" {
			if again, err := periodOf(want).duration(); err != nil || again != want {
				t.Errorf("%q came back as %q", text, periodOf(want))
			}
		}
	}
	for _, text := range []period{"d", "7", "0d", "-1d", "+1d", "1.5h", "21y", "99999999999s", "7 d", "7D", "7µ"} {
		if got, err := text.duration(); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestExpiryFile(t *testing.T) {
	dir := t.TempDir()
	if e, err := readExpiry(dir); err != nil || e != (expiry{}) {
		t.Errorf("no file: %+v, %v", e, err)
	}
	want, err := parseExpiry([]string{"timestamp=2d", "root=1y"})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeExpiry(dir, want); err != nil {
		t.Fatal(err)
	}
	if e, err := readExpiry(dir); err != nil || e != want || e.effective() != (expiry{"1y", "1y", "14d", "2d"}) {
		t.Errorf("%+v, %v", e, err)
	}
	for text, words := range map[string]string{
		"timestamp = '2x'\n":          "timestamp: the period",
		"channels = '2d'\n":           "strict mode",
		strings.Repeat("# x\n", 2000): "at most 4096 bytes",
	} {
		if err := os.WriteFile(filepath.Join(dir, expiryFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readExpiry(dir); err == nil || !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), expiryFile) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	for _, words := range [][]string{{"timestamp"}, {"timestamp="}, {"channels=2d"}, {"=2d"}, {"root=2x"}} {
		if e, err := parseExpiry(words); err == nil {
			t.Errorf("%q: %+v", words, e)
		}
	}
}

// FuzzPeriod: what is read is written as the same time, and never as one out of bounds.
func FuzzPeriod(f *testing.F) {
	for _, text := range []string{"7d", "2w", "0s", "20y", "4294967296s", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := period(text).duration()
		if err != nil || text == "" {
			return
		}
		if d < time.Second || d > maxPeriod {
			t.Errorf("%q is %v", text, d)
		}
		if again, err := periodOf(d).duration(); err != nil || again != d {
			t.Errorf("%q is %v and came back as %v, %v", text, d, again, err)
		}
	})
}

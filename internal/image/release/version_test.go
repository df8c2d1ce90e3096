package release

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"testing"

	"github.com/ashlar-os/ashlar/internal/program"
)

// oldestFirst is strictly ascending; the first lines are the specification's own.
var oldestFirst = []string{
	"~1", "", "ab", "abb", "abc", "0001~", "0001", "002", "12_", "122.9", "123~rc1", "123", "123-a", "123-a.1", "123-a1",
	"123-a1.1", "123-3", "123-3.1", "123^patch1", "123^1", "123.a-1", "123.1-1", "123a-1", "124",
}

func TestCompareVersionsOrder(t *testing.T) {
	for i, a := range oldestFirst {
		for j, b := range oldestFirst {
			if got, want := CompareVersions(a, b), compareInts(i, j); got != want {
				t.Errorf("CompareVersions(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestCompareVersionsEqual(t *testing.T) {
	for _, pair := range [][2]string{
		{"0_", "0"}, {"_1.2", "1.2_"}, {"00012", "12"}, {"1+0", "1_0"}, {"1.", "1._"},
		{"99999999999999999999999999999999", "099999999999999999999999999999999"},
	} {
		if got := CompareVersions(pair[0], pair[1]); got != 0 {
			t.Errorf("CompareVersions(%q, %q) = %d, want 0", pair[0], pair[1], got)
		}
	}
}

// The loader's own comparison is strverscmp_improved, and systemd-analyze
// answers with that function.
func TestCompareVersionsAsSystemd(t *testing.T) {
	words := slices.Clone(oldestFirst)
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		word := make([]byte, 1+random.IntN(7))
		for i := range word {
			const alphabet = "0012aB~-^..+_"
			word[i] = alphabet[random.IntN(len(alphabet))]
		}
		words = append(words, string(word))
	}
	for i := range words {
		a, b := words[i], words[random.IntN(len(words))]
		if i > 0 && i < len(oldestFirst) {
			b = words[i-1]
		}
		want, err := systemdCompares(t, a, b)
		if err != nil {
			t.Fatal(err)
		}
		if got := CompareVersions(a, b); got != want {
			t.Errorf("CompareVersions(%q, %q) = %d, systemd says %d", a, b, got, want)
		}
	}
}

func systemdCompares(t *testing.T, a, b string) (int, error) {
	_, err := program.Run(t.Context(), program.Command{Args: []string{"systemd-analyze", "compare-versions", "--", a, b}})
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit) && exit.ExitCode() == 11: // rpmdev-vercmp's codes
		return 1, nil
	case errors.As(err, &exit) && exit.ExitCode() == 12:
		return -1, nil
	}
	return 0, fmt.Errorf("comparing %q and %q: %w", a, b, err)
}

func FuzzCompareVersions(f *testing.F) {
	for i := range oldestFirst[1:] {
		f.Add(oldestFirst[i], oldestFirst[i+1], oldestFirst[(i*7)%len(oldestFirst)])
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, ba := CompareVersions(a, b), CompareVersions(b, a)
		if ab != -ba {
			t.Errorf("%q, %q: %d one way and %d the other", a, b, ab, ba)
		}
		if CompareVersions(a, a) != 0 {
			t.Errorf("%q differs from itself", a)
		}
		if ab < 0 && CompareVersions(b, c) < 0 && CompareVersions(a, c) >= 0 {
			t.Errorf("%q < %q < %q, but not the first and the last", a, b, c)
		}
	})
}

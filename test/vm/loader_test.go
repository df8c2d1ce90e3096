//go:build vm

package vm

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	machineloader "github.com/ashlar-os/ashlar/internal/machine/loader"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/internal/vmtest/loadertest"
)

// loaderCase is what is on an ESP. In EFI/Linux a file "V+3" is version V of one
// system with that counter, "V+3.efi" under the name that Ashlar gives it.
type loaderCase struct {
	name    string
	entries []string          // versions with their counters, as "2+3"
	others  map[string]string // more files, by their path
	boots   int               // default 1
	bless   int               // after which boot what ran is blessed; 0: never

	// The entries are one boot file under two names, as a cut in the middle of a
	// rename may leave it. Which of them is started is up to the directory's order.
	twice bool
}

// other is the boot file of another system.
func other(id string) string {
	return string(loadertest.Program("ID="+id+"\nIMAGE_ID="+id+"\nIMAGE_VERSION=9\nPRETTY_NAME=\""+id+"\"\n", "other="+id))
}

const random = "\x8f\x01random bytes, no program\x00\xff"

var loaderCases = []loaderCase{
	{name: "count-down", entries: []string{"1", "2", "3+3"}, boots: 4},
	{name: "bless", entries: []string{"1", "2+3"}, boots: 2, bless: 1},
	{name: "exhausted are skipped", entries: []string{"1", "2+0-3", "3+0"}},
	{name: "rollback to the oldest", entries: []string{"1", "2+0", "10+0"}},
	{name: "all are exhausted", entries: []string{"1+0-3", "2+0-3", "10+0-1"}},
	{name: "leftovers", entries: []string{"1"}, others: map[string]string{
		"EFI/Linux/ashlar_3_030000000000.ashlar-partial": other("server"),
		"EFI/Linux/ashlar_4_040000000000+3.efi":          random,
		"EFI/Linux/ashlar_5_050000000000+3.efi":          "",
	}},
	{name: "foreign entries", entries: []string{"1", "2+3"}, others: map[string]string{
		"EFI/Linux/arch.efi":       other("zzz"),
		"EFI/Linux/auto-me.efi":    other("aaa"),
		"EFI/Linux/nameless.efi":   string(loadertest.Program("HOME_URL=x\n", "nameless")),
		"loader/entries/sled.conf": "title sled\nlinux /EFI/Linux/arch.efi\n",
	}},
	{name: "another system first", entries: []string{"1"}, others: map[string]string{"EFI/Linux/arch.efi": other("arch")}},
	{name: "with and without a counter", entries: []string{"2", "2+3"}, twice: true},
}

// randomCase is any state of up to five deployments.
func randomCase(seed uint64) loaderCase {
	r := rand.New(rand.NewPCG(5, seed))
	c := loaderCase{name: fmt.Sprintf("random %d", seed)}
	counters := []string{"", "", "+3", "+2-1", "+1-2", "+0-3", "+0"}
	versions := []string{"1", "2", "10", "1.9", "1.10", "2~rc1", "2-1", "3.0.0"}
	r.Shuffle(len(versions), func(i, j int) { versions[i], versions[j] = versions[j], versions[i] })
	for _, v := range versions[:2+r.IntN(4)] {
		c.entries = append(c.entries, v+counters[r.IntN(len(counters))])
	}
	return c
}

// TestLoader compares the loader of the image with what the machine takes it to do:
// package esp says of every state of the ESP which entry is started, and under which
// name it is counted. A loader that sorts, counts or skips differently fails here.
func TestLoader(t *testing.T) {
	t.Parallel()
	loader := imageLoader(t)
	cases := slices.Clone(loaderCases)
	for seed := range uint64(6) {
		cases = append(cases, randomCase(seed))
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { driveLoader(t, loader, c) })
	}
}

// TestLoaderFollowsTheImage: a machine that was installed with an older loader is
// started by the image's after two good boots, and keeps the old one until then.
func TestLoaderFollowsTheImage(t *testing.T) {
	t.Parallel()
	m := newMachine(t, sealed, "old-loader")
	const info = "#### LoaderInfo: systemd-boot 2"
	now := imageLoader(t)
	old := bytes.Replace(now, []byte(info), []byte(info[:len(info)-1]+"1"), 1)
	if bytes.Equal(old, now) {
		t.Fatalf("the loader does not say %q", info)
	}
	file := filepath.Join(t.TempDir(), "old.efi")
	if err := os.WriteFile(file, old, 0o644); err != nil {
		t.Fatal(err)
	}
	m.step("putting the older loader on the disk", func(ctx context.Context) error {
		return m.Edit(ctx, func(raw string) error {
			drive, err := vmtest.Mtools(ctx, raw)
			if err != nil {
				return err
			}
			for _, name := range machineloader.Copies {
				if err := run(ctx, "mcopy", "-o", "-i", drive, file, "::"+name); err != nil {
					return err
				}
			}
			return nil
		})
	})
	const sums = "cd /efi && sha256sum EFI/BOOT/BOOTX64.EFI EFI/systemd/systemd-bootx64.efi $(ls /usr/lib/systemd/boot/efi/systemd-bootx64.efi* | tail -n 1) | cut -c1-64"
	copies := func() (fallback, entered, image string) {
		t.Helper()
		list := strings.Fields(m.sh(sums))
		if len(list) != 3 {
			t.Fatalf("digests of the loaders: %q", list)
		}
		return list[0], list[1], list[2]
	}

	m.boot()
	m.expectContains("its status", m.sh("ashlar status"), "loader      systemd-boot 1")
	fallback, entered, image := copies()
	if fallback == image || entered != image {
		t.Errorf("after the first good boot the copies are %s and %s of %s: only the one that did not start the machine may be new", fallback, entered, image)
	}
	m.expectContains("history", m.sh("ashlar history"), "loader-tried")

	m.reboot()
	if fallback, entered, _ := copies(); fallback != image || entered != image {
		t.Errorf("after a good boot by the new one the copies are %s and %s of %s", fallback, entered, image)
	}
	m.expectContains("history", m.sh("ashlar history"), "loader-updated")

	m.reboot()
	m.expectContains("status", m.sh("ashlar status"), ", the image's\n")
	m.expectContains("what started it", m.sh("ashlar status --json"), `"started": "EFI/systemd/systemd-bootx64.efi"`)
}

// imageLoader is systemd-boot of the release, as the disk that was made of it has it.
func imageLoader(t *testing.T) []byte {
	t.Helper()
	ctx, cancel := stepContext()
	defer cancel()
	drive, err := vmtest.Mtools(ctx, fx.Disk())
	if err != nil {
		t.Fatal(err)
	}
	b, err := program.Run(ctx, program.Command{Args: []string{"mtype", "-i", drive, "::/EFI/systemd/systemd-bootx64.efi"}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func driveLoader(t *testing.T, loader []byte, c loaderCase) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	dir := filepath.Join(t.TempDir(), "files")
	write := func(path, text string) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("loader/loader.conf", "timeout 0\neditor no\n")
	for i, e := range c.entries {
		version, counter, has := strings.Cut(e, "+")
		if has {
			counter = "+" + counter
		}
		if c.twice {
			i = 0
		}
		image := verity.Digest{byte(i + 1)}
		name, err := esp.EntryName(version, image)
		if err != nil {
			t.Fatal(err)
		}
		write("EFI/Linux/"+name+counter+".efi", string(loadertest.Program(
			fmt.Sprintf("ID=debian\nIMAGE_ID=server\nIMAGE_VERSION=%s\nPRETTY_NAME=\"server %s\"\n", version, version),
			fmt.Sprintf("ashlar.image=%s entry=%d", image, i))))
	}
	for path, text := range c.others {
		write(path, text)
	}
	m, err := loadertest.New(ctx, t.TempDir(), loader, dir)
	if err != nil {
		t.Fatal(err)
	}
	// The directory is the model from here on: what the loader does to the ESP is
	// done to it by what package esp says.
	model, err := esp.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= max(c.boots, 1); n++ {
		entries, err := model.Entries()
		if err != nil {
			t.Fatal(err)
		}
		next, ok := boot.Explain(entries)
		if !ok {
			t.Fatalf("boot %d: package boot knows nothing that starts", n)
		}
		uki, err := esp.ReadUKI(model.Path(next.Entry))
		if err != nil {
			t.Fatal(err)
		}
		said, err := m.Boot(ctx)
		if err != nil || said != uki.Cmdline {
			t.Fatalf("boot %d: the loader starts %q, and %q is expected because %s (%v)", n, said, next.Entry.File, next.Why, err)
		}
		if c.twice {
			return
		}
		after := next.Entry
		if after.Counted() { // also one that is out of tries
			after = after.WithCounter(max(after.Left-1, 0), after.Done+1)
		}
		if n == c.bless {
			bare := after.WithCounter(esp.NoCounter, 0)
			if err := m.Rename(ctx, "EFI/Linux", after.File, bare.File); err != nil {
				t.Fatal(err)
			}
			after = bare
		}
		if err := os.Rename(model.Path(next.Entry), model.Path(after)); err != nil {
			t.Fatal(err)
		}
		compareFiles(ctx, t, m, dir)
	}
}

// compareFiles compares the ESP with the model.
func compareFiles(ctx context.Context, t *testing.T, m *loadertest.Machine, dir string) {
	t.Helper()
	got, err := m.Files(ctx, "EFI/Linux")
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(filepath.Join(dir, "EFI/Linux"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range list {
		want = append(want, f.Name())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the loader leaves %q, want %q", got, want)
	}
}

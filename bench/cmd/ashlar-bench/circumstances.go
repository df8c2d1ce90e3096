package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// describeMachine says in words what the figures were made on.
func describeMachine() (string, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return "", err
	}
	cpu, err := field("/proc/cpuinfo", "model name")
	if err != nil {
		return "", err
	}
	system, err := field("/etc/os-release", "PRETTY_NAME")
	if err != nil {
		return "", err
	}
	kernel, _, _ := strings.Cut(unix.ByteSliceToString(uts.Release[:]), "-")
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	five := strings.Fields(string(load))[1]
	return fmt.Sprintf("%d processors (%s), %d GB of memory, %s, Linux %s, %s. Load over the last five minutes: %s.",
		runtime.NumCPU(), cpu, int64(info.Totalram)*int64(info.Unit)>>30, strings.Trim(system, `"`), kernel, runtime.Version(), five), nil
}

// field returns the value of the first line that begins with name, after ":" or "=".
func field(file, name string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimLeft(rest, " \t:="), nil
		}
	}
	return "", fmt.Errorf("%q has no line %q", file, name)
}

// peers lists what was compared with.
func (c *comparison) peers() ([]string, error) {
	var list []string
	for _, p := range []struct{ name, release string }{{"ostree", "Debian 13"}, {"mkcomposefs", "Debian unstable"}} {
		version, err := os.ReadFile(c.path("peers", p.name+".version"))
		if err != nil {
			return nil, err
		}
		list = append(list, fmt.Sprintf("- %s of %s's package %s", p.name, p.release, strings.TrimSpace(string(version))))
	}
	return list, nil
}

// differences lists the packages that are not the same in both trees.
func (c *comparison) differences() ([]string, error) {
	old, err := readPackages(c.path("v1.packages"))
	if err != nil {
		return nil, err
	}
	now, err := readPackages(c.path("v2.packages"))
	if err != nil {
		return nil, err
	}
	var list []string
	same := 0
	for _, name := range slices.Sorted(maps.Keys(union(old, now))) {
		if old[name] == now[name] {
			same++
			continue
		}
		list = append(list, fmt.Sprintf("- %s: %s → %s", name, cmp.Or(old[name], "absent"), cmp.Or(now[name], "absent")))
	}
	return append(list, fmt.Sprintf("- the other %d packages are the same", same)), nil
}

// readPackages reads lines of name and version.
func readPackages(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	versions := make(map[string]string)
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		name, version, ok := strings.Cut(line, " ")
		if !ok {
			return nil, fmt.Errorf("%q: %q is not a package and its version", file, line)
		}
		versions[name] = version
	}
	return versions, nil
}

func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

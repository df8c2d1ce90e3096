//go:build vm

package vm

import (
	"context"
	"debug/pe"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/vmtest"
)

// The attacks on a machine from its firmware, its hypervisor, its disk and its
// own users; docs/threat-model.md lists them all.

// evilUnit is what an attacker would like systemd to run.
const evilUnit = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/touch /run/evil\n"

// TestNothingFromOutside is a released image on a machine whose firmware,
// hypervisor, ESP, EFI variables and users are hostile. That the same strings
// reach an image for tests is what every other story's agent lives on.
func TestNothingFromOutside(t *testing.T) {
	t.Parallel()
	fwcfg := filepath.Join(t.TempDir(), "unit")
	if err := os.WriteFile(fwcfg, []byte(evilUnit), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"-fw_cfg", "name=opt/io.systemd.credentials/systemd.extra-unit.x.service,file=" + fwcfg}
	for _, value := range []string{
		vmtest.Credential("systemd.extra-unit.evil.service", evilUnit),
		vmtest.Credential("systemd.unit-dropin.multi-user.target", "[Unit]\nWants=evil.service x.service\n"),
		"io.systemd.boot.kernel-cmdline-extra=systemd.debug_shell",
	} {
		args = append(args, vmtest.SMBIOS(value)...)
	}
	m := newMachineWith(t, vmtest.Config{Base: closedDisk(t), Closed: true, Args: args})
	file := m.bootFile()
	m.putOnESP(map[string][]byte{
		file + ".extra.d/evil.cred":        []byte("evil"),
		file + ".extra.d/evil.raw":         []byte("evil"),
		file + ".extra.d/evil.confext.raw": []byte("evil"),
		"/loader/credentials/evil.cred":    []byte("evil"),
	})

	// Its first boot: what is offered is not taken, and status tells of it.
	m.boot()
	m.expect("units from SMBIOS and fw_cfg", m.sh("systemctl show -P LoadState evil.service x.service debug-shell.service | xargs; systemctl is-active debug-shell.service; true"),
		"not-found not-found loaded\ninactive")
	m.sh("! test -e /run/evil && ! test -e /run/credentials/@system && ! test -e /run/credentials/@encrypted")
	said := m.sh("ashlar status")
	for _, what := range []string{"credentials/evil.cred", "global_credentials/evil.cred", "sysext/evil.raw", "confext/evil.confext.raw"} {
		m.expectContains("status", said, fmt.Sprintf("ignored     %q from the ESP\n", what))
	}
	if strings.Contains(said, "for tests only") {
		t.Errorf("status calls a released image one for tests:\n%s", said)
	}
	m.expectContains("verify", m.fails("ashlar verify"), `stray: "loader/credentials/evil.cred" on the ESP belongs to no release, and would be given to what boots`)
	m.sh("rm -r /efi/loader/credentials /efi" + file + ".extra.d")
	m.expectContains("verify", m.sh("ashlar verify"), "good:")

	t.Run("unprivileged", func(t *testing.T) { m.refusesNobody(t) })

	// Without Secure Boot systemd reads parameters from an EFI variable.
	m.sh(printf(efiString("systemd.debug_shell")) + " > /sys/firmware/efi/efivars/SystemdOptions-8cf2644b-4b0b-428f-9387-6d876050dc67")
	m.reboot()
	m.expectContains("status", m.sh("ashlar status"), `ignored     EFI variable SystemdOptions, "systemd.debug_shell", now removed`)
	m.expect("debug-shell.service", m.sh("systemctl is-active debug-shell.service; ls /sys/firmware/efi/efivars | grep SystemdOptions; true"), "inactive")

	// An addon that nobody signed, and parameters that would keep ashlar-init from running.
	stub, err := base64.StdEncoding.DecodeString(m.sh("base64 -w0 /usr/lib/systemd/boot/efi/addonx64.efi.stub"))
	if err != nil {
		t.Fatal(err)
	}
	m.step("shutdown", m.Shutdown)
	m.putOnESP(map[string][]byte{file + ".extra.d/evil.addon.efi": addon(t, stub, "systemd.debug_shell")})
	m.Args = append(m.Args, vmtest.SMBIOS("io.systemd.stub.kernel-cmdline-extra=rdinit=/none root=/dev/vda2 init=/bin/sh")...)
	m.step("start", m.Start)
	m.step("refusal", func(ctx context.Context) error {
		_, err := m.WaitConsole(ctx, regexp.QuoteMeta(`ashlar: cannot boot: the kernel was not started with the boot file's parameters: `+
			`"systemd.debug_shell" "rdinit=/none" "root=/dev/vda2" "init=/bin/sh" added; this image takes them from nobody else. The machine reboots in 5 seconds.`))
		return err
	})
	m.PowerCut()
	m.expect("the boot file, whose boots are counted again", m.bootFile(), strings.TrimSuffix(file, ".efi")+"+2-1.efi")
}

// refusesNobody: a user without privileges runs everything that would change
// something. Nothing does, and each says why.
func (m *machine) refusesNobody(t *testing.T) {
	const state = "find /sysroot/ashlar/deployments -maxdepth 2 -type f -exec md5sum {} + | sort; ls -lR /efi; ls -l /sysroot/ashlar /run/ashlar"
	before := m.sh(state)
	for _, command := range []string{
		"ashlar update", "ashlar update --check", "ashlar switch registry.example/acme/other:stable", "ashlar rollback",
		"ashlar pin 1.0.0", "ashlar unpin 1.0.0", "ashlar gc", "ashlar etc reset /etc/motd", "ashlar boot-record",
	} {
		said := m.fails("setpriv --reuid=65534 --regid=65534 --clear-groups --reset-env " + command)
		if want := "only root can run this on a machine: its store and its boot files are root's alone"; !strings.Contains(said, want) {
			t.Errorf("%s says %q, want %q", command, said, want)
		}
	}
	for _, command := range []string{
		"touch /efi/EFI/Linux/evil.efi", "ls /efi", "ls /sysroot/ashlar/objects", "cat /sysroot/ashlar/images/*",
		"rm -r /sysroot/ashlar/deployments/*", "touch /sysroot/ashlar/trust/root.json", "touch /sysroot/ashlar/unsealed",
		"tee /run/ashlar/boot.json", "touch /sys/firmware/efi/efivars/SystemdOptions-8cf2644b-4b0b-428f-9387-6d876050dc67",
		"mount --bind /tmp /usr", "dd if=/dev/zero of=/dev/vda count=1", "systemctl --no-ask-password reboot",
		"tee /etc/motd", "touch /usr/bin/evil",
	} {
		m.fails("setpriv --reuid=65534 --regid=65534 --clear-groups --reset-env sh -c '" + command + "' </dev/null")
	}
	if after := m.sh(state); after != before {
		t.Errorf("something was changed: before\n%s\nafter\n%s", before, after)
	}
}

// TestTheBootFileIsReplaced: without Secure Boot a boot file with another command
// line starts, and status and verify say so. A disk with the same labels and an
// evil root is beside it and is not taken.
func TestTheBootFileIsReplaced(t *testing.T) {
	t.Parallel()
	evil := evilTwin(t)
	m := newMachineWith(t, vmtest.Config{Base: sealed, Others: []vmtest.Disk{{Image: evil}}})
	file := m.bootFile()
	m.step("replacing the boot file", func(ctx context.Context) error {
		return m.Edit(ctx, func(raw string) error {
			drive, err := vmtest.Mtools(ctx, raw)
			if err != nil {
				return err
			}
			uki := filepath.Join(t.TempDir(), "uki")
			if err := run(ctx, "mcopy", "-i", drive, "::"+file, uki); err != nil {
				return err
			}
			if err := appendCmdline(uki, " systemd.debug_shell"); err != nil {
				return err
			}
			return run(ctx, "mcopy", "-o", "-i", drive, uki, "::"+file)
		})
	})
	m.boot()
	m.expect("what the other command line starts", m.sh("systemctl is-active debug-shell.service"), "active")
	name := filepath.Base(file)
	said := m.sh("ashlar status")
	m.expectContains("status", said, fmt.Sprintf("changed     boot file %q is not the one of server-1.0.0: its sha256 is ", name))
	m.expectContains("status", said, "foreign     this image accepts parameters and credentials from firmware: for tests only\n")
	said = m.fails("ashlar verify")
	m.expectContains("verify", said, fmt.Sprintf("changed: boot file %q is not the one of server-1.0.0: its sha256 is ", name))
	m.expectContains("verify", said, "NOT GOOD: ")
	m.sh("test -e /dev/disk/by-label/ashlar-root && lsblk -no PARTLABEL | grep -c ashlar-root | grep -qx 2")
	m.sh("! test -e /var/evil")
}

// closedDisk makes a disk of a release that takes nothing from outside. It has
// never booted.
func closedDisk(t *testing.T) string {
	t.Helper()
	ctx, cancel := stepContext()
	defer cancel()
	recipe, err := fx.Recipe(ctx, "closed")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	out, disk := filepath.Join(dir, "out"), filepath.Join(dir, "disk.raw")
	for _, args := range [][]string{
		{"build", recipe, "-o", out, "--lock", filepath.Join(dir, "lock"), "--cache", fx.Cache},
		{"disk", out + ":1.0.0", "-o", disk},
	} {
		if _, err := fx.Ashlar(ctx, args...); err != nil {
			t.Fatal(err)
		}
	}
	return disk
}

// evilTwin makes a copy of the sealed disk whose partitions have UUIDs of their
// own, all else alike, with a mark that shows when it is taken for the root's.
func evilTwin(t *testing.T) string {
	t.Helper()
	twin := filepath.Join(t.TempDir(), "evil.raw")
	ctx, cancel := stepContext()
	defer cancel()
	if err := run(ctx, "cp", "--sparse=always", sealed, twin); err != nil {
		t.Fatal(err)
	}
	if err := run(ctx, "sgdisk", "-G", twin); err != nil {
		t.Fatal(err)
	}
	if err := editRoot(ctx, twin, "mkdir /ashlar/var/evil"); err != nil {
		t.Fatal(err)
	}
	return twin
}

// editRoot runs commands of debugfs on the root partition of a raw disk.
func editRoot(ctx context.Context, raw string, commands ...string) error {
	start, _, err := vmtest.Partition(ctx, raw, rootPartition)
	if err != nil {
		return err
	}
	for _, command := range commands {
		if err := run(ctx, "debugfs", "-w", "-R", command, fmt.Sprintf("%s?offset=%d", raw, start)); err != nil {
			return err
		}
	}
	return nil
}

func run(ctx context.Context, args ...string) error {
	_, err := program.Run(ctx, program.Command{Args: args})
	return err
}

// bootFile is the path of the machine's only boot file on its ESP. The machine is off.
func (m *machine) bootFile() string {
	m.t.Helper()
	var found []string
	m.step("listing the ESP", func(ctx context.Context) error {
		files, err := m.ESP(ctx)
		for _, file := range files {
			if strings.HasPrefix(file, "/EFI/Linux/ashlar_") && strings.HasSuffix(file, ".efi") && strings.Count(file, "/") == 3 {
				found = append(found, file)
			}
		}
		if err == nil && len(found) != 1 {
			err = fmt.Errorf("boot files on the ESP: %q", found)
		}
		return err
	})
	return found[0]
}

// putOnESP writes files to the ESP of a machine that is off.
func (m *machine) putOnESP(files map[string][]byte) {
	m.t.Helper()
	m.step("writing to the ESP", func(ctx context.Context) error {
		return m.Edit(ctx, func(raw string) error {
			drive, err := vmtest.Mtools(ctx, raw)
			if err != nil {
				return err
			}
			source := filepath.Join(m.t.TempDir(), "file")
			for path, content := range files {
				if err := os.WriteFile(source, content, 0o644); err != nil {
					return err
				}
				_ = run(ctx, "mmd", "-D", "s", "-i", drive, "::"+filepath.Dir(path)) // it may be there
				if err := run(ctx, "mcopy", "-o", "-i", drive, source, "::"+path); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// addon makes an addon with kernel parameters from systemd's stub for them.
func addon(t *testing.T, stub []byte, cmdline string) []byte {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := stepContext()
	defer cancel()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string][]byte{"stub": stub, "cmdline": []byte(cmdline)} {
		if err := os.WriteFile(path(name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := pe.Open(path("stub"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	optional, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		t.Fatal("the stub for addons is not one for 64 bits")
	}
	last := f.Sections[len(f.Sections)-1]
	at := uint64(last.VirtualAddress+last.VirtualSize+0xfff)&^0xfff + optional.ImageBase
	err = run(ctx, "objcopy", "--add-section", ".cmdline="+path("cmdline"), "--set-section-flags", ".cmdline=data,readonly",
		"--change-section-vma", fmt.Sprintf(".cmdline=%#x", at), path("stub"), path("addon"))
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path("addon"))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// appendCmdline appends to the command line in a boot file, in the room that its
// section has to the next.
func appendCmdline(uki, more string) error {
	f, err := os.OpenFile(uki, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := pe.NewFile(f)
	if err != nil {
		return err
	}
	var dos [4]byte
	if _, err := f.ReadAt(dos[:], 0x3c); err != nil {
		return err
	}
	table := int64(binary.LittleEndian.Uint32(dos[:])) + 4 + 20 + int64(p.FileHeader.SizeOfOptionalHeader)
	for i, s := range p.Sections {
		if s.Name != ".cmdline" {
			continue
		}
		size := s.VirtualSize + uint32(len(more))
		if size > s.Size {
			return fmt.Errorf("the command line has room for %d bytes, not %d", s.Size, size)
		}
		if _, err := f.WriteAt([]byte(more), int64(s.Offset+s.VirtualSize)); err != nil {
			return err
		}
		_, err := f.WriteAt(binary.LittleEndian.AppendUint32(nil, size), table+int64(i)*40+8)
		return err
	}
	return io.ErrUnexpectedEOF
}

// efiString is a string as efivarfs takes it: non-volatile, for boot and system.
func efiString(s string) []byte {
	b := []byte{7, 0, 0, 0}
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// printf is the shell command that prints these bytes.
func printf(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, `\%03o`, c)
	}
	return "printf '" + s.String() + "'"
}

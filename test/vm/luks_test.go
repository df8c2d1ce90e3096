//go:build vm

package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/anatol/devmapper.go"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/vmtest"
)

// luksOffset is where cryptsetup puts the data, behind its header, in bytes.
const luksOffset = 16 << 20

// TestEncryptedRoot: the disk opens with its passphrase at the console and with no
// other, which is said; what is typed is never shown; and everything is on the
// mapped device.
func TestEncryptedRoot(t *testing.T) {
	t.Parallel()
	const passphrase = "Mörtel und Fuge"
	disk := encryptedDisk(t, sealed, passphrase)
	m := newMachineWith(t, vmtest.Config{Base: disk})
	m.step("start", m.Start)
	m.answer(`the disk "vda" is encrypted\.\s+Passphrase or recovery key: `, "Mörtel und Fuge, but not quite\r")
	m.answer(`that is neither its passphrase nor its recovery key; nothing was changed, try again\.\s+Passphrase or recovery key: `, passphrase[:3]+"x\x7f"+passphrase[3:]+"\r")
	m.step("boot", m.WaitReady)
	m.expectUp()

	var record struct {
		RootDevice string `json:"root_device"`
		Encryption struct {
			Device string
			UUID   string
			Wrong  int
		}
	}
	if err := json.Unmarshal([]byte(m.sh("cat /run/ashlar/boot.json")), &record); err != nil {
		t.Fatal(err)
	}
	if e := record.Encryption; !strings.HasPrefix(record.RootDevice, "/dev/dm-") || e.Device != "/dev/vda2" || e.Wrong != 1 || len(e.UUID) != 36 {
		t.Errorf("boot.json: %+v", record)
	}
	for _, at := range []string{"/sysroot", "/var"} {
		m.expect("device at "+at, m.sh("findmnt -nvo SOURCE -t ext4 "+at), record.RootDevice)
	}
	m.expectContains("status", m.sh("ashlar status"), `encrypted   "/dev/vda2" is LUKS2; unlocked after 1 wrong passphrase`)
	m.expectContains("verify", m.sh("ashlar verify"), "good:")
	// A wrong passphrase is no failed boot: what was good is not counted again.
	if said := m.sh("ls /efi/EFI/Linux"); strings.Contains(said, "+") {
		t.Errorf("boot files: %s", said)
	}
	m.sh("echo secret-of-the-story > /var/lib/story && sync")
	m.step("shutdown", m.Shutdown)

	if said := m.consoleLog(); strings.Contains(said, "Fuge") {
		t.Error("the console shows the passphrase")
	}
	// What the machine wrote is in its overlay, as it wrote it.
	if found, err := contains(filepath.Join(m.Dir, "disk.qcow2"), []byte("secret-of-the-story")); err != nil || found {
		t.Errorf("what was written to /var is on the disk for all to read (%v)", err)
	}
}

// answer waits for a prompt on the console and types.
func (m *machine) answer(prompt, keys string) {
	m.t.Helper()
	m.step(prompt, func(ctx context.Context) error {
		if _, err := m.WaitConsole(ctx, prompt); err != nil {
			return err
		}
		return m.Type(keys)
	})
}

// consoleLog is all that the machine's console ever said.
func (m *machine) consoleLog() string {
	m.t.Helper()
	b, err := os.ReadFile(m.Log)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

// contains looks for a text in a file of any size.
func contains(path string, text []byte) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	buf := make([]byte, 4<<20)
	for kept := 0; ; {
		n, err := io.ReadFull(f, buf[kept:])
		if bytes.Contains(buf[:kept+n], text) {
			return true, nil
		}
		if err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				err = nil
			}
			return false, err
		}
		kept = copy(buf, buf[len(buf)-len(text):])
	}
}

// encryptedDisk makes a copy of a disk image whose root partition is encrypted:
// cryptsetup makes the header, and its volume key encrypts the content, since the host
// may have no device mapper.
func encryptedDisk(t *testing.T, plain, passphrase string) string {
	t.Helper()
	ctx, cancel := stepContext()
	defer cancel()
	dir := t.TempDir()
	disk, header, key := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "header"), filepath.Join(dir, "key")
	in, err := os.Open(plain)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	table, err := gpt.Read(in, 512)
	if err != nil {
		t.Fatal(err)
	}
	root := &table.Partitions[rootPartition-1]
	size := root.Size
	root.Size += luksOffset
	st, err := in.Stat()
	if err != nil {
		t.Fatal(err)
	}
	table.Size = st.Size() + luksOffset
	if err := os.WriteFile(header, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(header, root.Size); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"luksFormat", "--type=luks2", "--pbkdf=argon2id", "--pbkdf-memory=65536", "--pbkdf-force-iterations=4", "--sector-size=4096"},
		{"luksDump", "--dump-volume-key", "--volume-key-file=" + key},
	} {
		if _, err := program.Run(ctx, program.Command{
			Args: append(append([]string{"cryptsetup", "--batch-mode", "--key-file=-"}, args...), header), Stdin: strings.NewReader(passphrase),
		}); err != nil {
			t.Fatal(err)
		}
	}
	secret, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}

	if err := run(ctx, "cp", "--sparse=always", plain, disk); err != nil {
		t.Fatal(err)
	}
	if err := run(ctx, "dd", "if="+header, "of="+disk, "bs=1M", "count=16", "oflag=seek_bytes", "seek="+strconv.FormatInt(root.Start, 10), "conv=notrunc", "status=none"); err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.Truncate(table.Size); err != nil {
		t.Fatal(err)
	}
	if err := table.Write(out); err != nil {
		t.Fatal(err)
	}
	volume, err := devmapper.OpenUserspaceVolume(os.O_RDWR, 0, devmapper.CryptTable{
		Length: uint64(size), BackendDevice: disk, BackendOffset: uint64(root.Start + luksOffset),
		Encryption: "aes-xts-plain64", Key: secret, SectorSize: 4096,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer volume.Close()
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), size-at)]
		if _, err := in.ReadAt(buf, root.Start+at); err != nil {
			t.Fatal(err)
		}
		if _, err := volume.WriteAt(buf, at); err != nil {
			t.Fatal(err)
		}
	}
	return disk
}

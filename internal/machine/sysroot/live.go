package sysroot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// memoryShare is how much of the computer's memory what is written to /etc and /var
// may take. Systemd gives /run a fifth and /tmp, which mostly stays empty, a half.
const memoryShare = "40%"

// liveDir is where that is, until it is shown at its places.
const liveDir = "/live"

// checkMedium reads all of the payload once, so that a medium which was changed or is
// worn out says so here, with the place, and not in the middle of installing.
// The kernel would find it too, whenever that block is needed, as an I/O error of
// whatever needs it.
func (b *boot) checkMedium() error {
	m := b.record.Medium
	payload, err := os.Open(m.Payload)
	if err != nil {
		return err
	}
	defer payload.Close()
	below, err := os.Open(b.mediumBelow)
	if err != nil {
		return err
	}
	defer below.Close()
	size, err := payload.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	c := everyConsole()
	defer c.close()
	shown := time.Now()
	return readAll(payload, size, func(read int64) {
		_ = unix.Fadvise(int(payload.Fd()), 0, read, unix.FADV_DONTNEED) // files are read another way
		if time.Since(shown) > 3*time.Second {
			shown = time.Now()
			c.print(fmt.Sprintf("ashlar: checking the medium %q: %d %%\r\n", m.Device, read*100/size))
		}
	}, func(block int64) error { return unreadable(m.Device, below, block) })
}

// readAll reads the size bytes of a payload. progress is told now and then how
// many were read; explain makes an error of a block that cannot be.
func readAll(r io.ReaderAt, size int64, progress func(int64), explain func(block int64) error) error {
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; {
		part := buf[:min(int64(len(buf)), size-at)]
		if _, err := r.ReadAt(part, at); err != nil {
			for block := at / medium.BlockSize; block*medium.BlockSize < at+int64(len(part)); block++ {
				if _, err := r.ReadAt(buf[:medium.BlockSize], block*medium.BlockSize); err != nil {
					return explain(block)
				}
			}
			// Each of them alone could be read: a drive that tried harder.
		}
		at += int64(len(part))
		progress(at)
	}
	return nil
}

// mountPayload mounts the payload where a machine has its root partition.
func (b *boot) mountPayload() error {
	m := b.record.Medium
	err := mountFS("erofs", sysrootDir, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV,
		setting{"source", m.Payload}, setting{"ro", ""})
	if err != nil {
		return err
	}
	b.record.FileSystem, b.record.RootDevice = "erofs", m.Payload
	b.store, err = store.OpenPayload(storeDir)
	return err
}

// mountLive mounts the image. Opening it has measured it, by reading all of it. Nothing
// on the medium has a seal of its own, for every block of it is below dm-verity.
func (b *boot) mountLive() error {
	image, err := b.store.OpenImage(b.params.image)
	if err != nil {
		return err
	}
	defer image.Close()
	return mountImage(image, b.store.ObjectsPath(), newRoot, setting{"verity", "off"})
}

// mountMemory completes the root: what is written to /etc and /var is kept in
// memory, and /sysroot is the payload.
func (b *boot) mountMemory() error {
	if err := os.MkdirAll(liveDir, 0o755); err != nil {
		return err
	}
	if err := mountFS("tmpfs", liveDir, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV,
		setting{"source", "ashlar-live"}, setting{"size", memoryShare}, setting{"mode", "0755"}); err != nil {
		return err
	}
	variable := filepath.Join(liveDir, "var")
	if err := os.Mkdir(variable, 0o755); err != nil {
		return err
	}
	b.record.Etc = "kept"
	return errors.Join(
		mountEtc(filepath.Join(newRoot, imageEtc), filepath.Join(liveDir, "etc"), filepath.Join(liveDir, "work"), filepath.Join(newRoot, "etc")),
		bind(variable, filepath.Join(newRoot, "var")),
		unmount(liveDir),
		move(sysrootDir, filepath.Join(newRoot, "sysroot")))
}

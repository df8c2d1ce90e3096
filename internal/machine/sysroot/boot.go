package sysroot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/modules"
	"github.com/ashlar-os/ashlar/internal/machine/store"
)

// Places in the initramfs.
const (
	sysrootDir = "/sysroot" // the root partition, writable
	newRoot    = "/newroot" // the root directory to be
	oldRoot    = "/oldroot" // another deployment's image, while /etc is merged
	storeDir   = sysrootDir + "/ashlar"
	efivarsDir = "/sys/firmware/efi/efivars"
)

// diskTimeout is how long to wait for the disk; settle is how long no device
// has to appear before a choice without the loader's word is made.
const (
	diskTimeout = 30 * time.Second
	settle      = 2 * time.Second
)

// boot is one boot: what was found so far, and what it took.
type boot struct {
	start, step time.Time
	given       string     // kernel command line as it came
	own         string     // the one of the boot file
	params      parameters // of own
	loader      *loader
	drivers     *drivers
	events      *uevents
	loaded      func() error // waits, once, for what every boot needs
	intact      func() error // waits, once, until the whole image was read
	disk        rootDisk
	mediumBelow string // on a medium: the device that gives the payload unchecked
	store       *store.Store
	record      Record
}

// step is one of a boot's steps.
type step struct {
	name string
	do   func() error
}

// run does the steps. It returns only with a failure.
func (b *boot) run() error {
	if err := b.do(step{"devices", b.devices}); err != nil {
		return err
	}
	steps := []step{
		{"disk", b.findDisk},
		{"root", b.mountRoot},
		{"foreign", b.refuseForeign},
		{"seal", b.seal},
		{"image", b.mountImage},
		{"etc", b.mountEtc},
		{"handover", b.handOver},
	}
	if b.params.medium != "" {
		steps = []step{
			{"medium", b.findMedium},
			{"foreign", b.refuseForeign},
			{"check", b.checkMedium},
			{"root", b.mountPayload},
			{"image", b.mountLive},
			{"etc", b.mountMemory},
			{"handover", b.handOver},
		}
	}
	for _, s := range steps {
		if err := b.do(s); err != nil {
			return err
		}
	}
	return nil
}

func (b *boot) do(s step) error {
	if err := s.do(); err != nil {
		return err
	}
	b.finish(s.name)
	return nil
}

// finish notes how long a step took.
func (b *boot) finish(step string) {
	now := time.Now()
	b.record.Steps = append(b.record.Steps, Step{step, now.Sub(b.step).Milliseconds()})
	b.step = now
}

// devices mounts the kernel's own file systems and loads what is always needed.
func (b *boot) devices() error {
	for _, m := range []struct {
		kind, target string
		flags        uintptr
		data         string
	}{
		{"proc", "/proc", unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV, ""},
		{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV, ""},
		{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=0755"},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	} {
		if err := unix.Mount(m.kind, m.target, m.kind, m.flags, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mounting %s at %q: %w", m.kind, m.target, err)
		}
	}
	rebootOnPanic()
	if err := b.readCmdline("/proc/cmdline", ownCmdline); err != nil {
		return err
	}
	list, err := readList(modules.ListPath)
	if err != nil {
		return err
	}
	b.loader = newLoader(list, insertModule)
	return nil
}

// rebootOnPanic makes a kernel that gives up reboot, so that the loader counts
// it as a failed boot, unless the command line has chosen.
func rebootOnPanic() {
	const file = "/proc/sys/kernel/panic"
	if readNumber(file) == 0 {
		_ = os.WriteFile(file, []byte("10"), 0) // best effort: a kernel that hangs is found by people
	}
}

// findDisk loads drivers as devices appear until the root partition is there.
func (b *boot) findDisk() error {
	if err := b.listen(); err != nil {
		return err
	}
	esp, err := b.readBootPartition()
	if err != nil {
		return err
	}
	for end := time.Now().Add(diskTimeout); ; {
		disks := readDisks("/sys", "/dev")
		b.disk, err = chooseRoot(disks, esp)
		if err == nil && esp != "" {
			return b.foundDisk()
		}
		if err != nil && !errors.Is(err, errNotYet) {
			return err
		}
		wait := time.Until(end)
		if err == nil {
			wait = settle // another disk may still make the choice ambiguous
		}
		if b.moreDevices(wait) {
			continue
		}
		if err == nil {
			return b.foundDisk()
		}
		return missingDisk(esp, disks)
	}
}

// listen begins to take note of devices, and loads what is needed in any case.
func (b *boot) listen() (err error) {
	if b.events, err = listen(); err != nil {
		return err
	}
	b.drivers = newDrivers(b.loader.list, "/sys")
	b.background(b.drivers.everyBoot()) // who mounts waits for it
	b.drivers.scan()
	b.driver(b.drivers.next())
	return nil
}

// moreDevices loads one more driver, or waits for a device that long. It returns
// false when neither happened, so that there is nothing new to look at.
func (b *boot) moreDevices(wait time.Duration) bool {
	b.drivers.scan()
	if name := b.drivers.next(); name != "" {
		b.driver(name)
		return true
	}
	return b.events.wait(wait)
}

// background starts to load modules; b.loaded gives the outcome.
func (b *boot) background(names []string) {
	done := make(chan error, 1)
	go func() { done <- b.loader.loadAll(names) }()
	b.loaded = func() error { return <-done }
}

// driver loads a driver. One that fails is not the end: the disk may be behind
// another.
func (b *boot) driver(name string) {
	if err := b.loader.load(name); err != nil {
		say(levelDebug, err.Error())
	}
}

// readBootPartition asks the firmware where the boot file came from.
func (b *boot) readBootPartition() (string, error) {
	if _, err := os.Stat("/sys/firmware/efi"); err != nil {
		return "", nil // not booted by EFI
	}
	if err := b.loader.load("efivarfs"); err != nil {
		return "", err
	}
	if err := unix.Mount("efivarfs", efivarsDir, "efivarfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return "", fmt.Errorf("mounting efivarfs: %w", err)
	}
	return bootPartition(efivarsDir)
}

func (b *boot) foundDisk() error {
	b.record.Disk, b.record.RootDevice = b.disk.disk, b.disk.root
	b.record.RootPartUUID, b.record.ESPPartUUID = b.disk.rootPartUUID, b.disk.espPartUUID
	return nil
}

func missingDisk(esp string, disks []disk) error {
	seen := names(disks)
	if esp == "" {
		return fmt.Errorf("no disk with an ESP and a root partition labelled %q appeared within %v; disks with a GPT: %s", rootLabel, diskTimeout, seen)
	}
	return fmt.Errorf("the disk with the ESP %s, which this boot came from, did not appear within %v; disks with a GPT: %s", esp, diskTimeout, seen)
}

// names lists disks, for a message.
func names(disks []disk) string {
	if len(disks) == 0 {
		return "none at all"
	}
	var words []string
	for _, d := range disks {
		words = append(words, strconv.Quote(d.name))
	}
	return strings.Join(words, " ")
}

// mountRoot mounts the root partition and opens the store on it.
func (b *boot) mountRoot() error {
	kind, err := probe(b.disk.root)
	if err == nil && kind == luksKind {
		if err = b.unlock(); err == nil {
			b.record.RootDevice = b.disk.root
			b.finish("unlock") // mostly a person's time
			kind, err = probe(b.disk.root)
		}
	}
	if err != nil {
		return err
	}
	// Digests come first: the file system keeps the implementation it finds.
	if err := errors.Join(b.loaded(), b.loader.load(kind)); err != nil {
		return err
	}
	if err := mountRoot(b.disk.root, kind, sysrootDir); err != nil {
		return err
	}
	b.record.FileSystem = kind
	if b.store, err = store.Open(storeDir); err != nil {
		return err
	}
	if err := b.store.CleanTmp(); err != nil {
		say(levelInfo, err.Error()) // it is only room
	}
	return nil
}

// seal gives every object and image of a disk image its seal. The marker goes
// only when all of them are on the disk with the digests of their names; until
// then a cut means doing it again, and what is sealed already costs little.
func (b *boot) seal() error {
	marker := b.store.UnsealedMarker()
	if _, err := os.Lstat(marker); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	say(levelInfo, "this is the first boot: sealing the image")
	var sealed, shown atomic.Int64
	err := b.store.SealAll(context.Background(), func(n int) {
		total := sealed.Add(int64(n))
		at, last := int64(time.Since(b.step)/(2*time.Second)), shown.Load()
		if at > last && shown.CompareAndSwap(last, at) {
			say(levelInfo, fmt.Sprintf("sealed %d objects", total))
		}
	})
	if err != nil {
		return err
	}
	if err := os.Remove(marker); err != nil {
		return fmt.Errorf("sealing: %w", err)
	}
	b.record.Sealed = int(sealed.Load())
	return syncDir(b.store.Dir)
}

// mountImage measures the image and mounts its tree as the root to be.
func (b *boot) mountImage() error {
	image, err := b.store.OpenImage(b.params.image)
	if err != nil {
		return err
	}
	b.readThrough(image)
	return mountImage(image, b.store.ObjectsPath(), newRoot, requireSeals)
}

// readThrough starts to read the whole image; b.intact gives the outcome.
//
// Measuring compares the digest that was sealed, not what the disk gives now:
// damage would show only when somebody looks up a name that it hits, as an I/O
// error, in a system that is already running. Reading a few megabytes finds it while
// the deployment before can still boot instead. The pages stay in memory, where
// the system needs them next.
func (b *boot) readThrough(image *os.File) {
	done := make(chan error, 1)
	go func() {
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{image}, make([]byte, 256<<10))
		if err != nil {
			err = fmt.Errorf("image %s is damaged on the disk, near byte %d: %w", b.params.image.Short(), n, err)
		}
		done <- err
	}()
	b.intact = func() error { return errors.Join(<-done, image.Close()) }
}

// handOver leaves notes for systemd and the agent and becomes systemd.
func (b *boot) handOver() error {
	b.finish("prepare")
	b.record.Modules = b.loader.times()
	const units = "/run/systemd/system"
	var err error
	var arguments []string
	if b.record.Medium == nil {
		err = writeUnits(units, b.disk.espPartUUID)
	} else {
		err = writeLiveUnits(units, consoleTerminals("/proc/consoles"))
		arguments = []string{"--unit=" + liveTarget}
	}
	if err != nil {
		return err
	}
	if err := b.writeRecord("/run/ashlar"); err != nil {
		return err
	}
	return handOver(newRoot, arguments)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

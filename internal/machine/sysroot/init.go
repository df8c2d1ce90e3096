package sysroot

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// rebootAfter is how long a failure can be read before the machine reboots.
const rebootAfter = 5 * time.Second

// Main is the whole life of the first process. It does not return: it becomes
// systemd or reboots the machine.
func Main() {
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			fail(fmt.Errorf("ashlar-init has an error of its own: %v at %s", p, firstFrame(debug.Stack())))
		}
	}()
	b := &boot{start: start, step: start}
	err := b.run()
	if errors.Is(err, errNobody) {
		turnOff(fmt.Sprintf("nobody gave the passphrase within %d minutes", int(patience.Minutes())))
	}
	b.noteFailure(err)
	if b.params.medium != "" {
		giveUp(err)
	}
	var lost *varError
	if errors.As(err, &lost) {
		fail(err) // no other deployment gets further without it: nothing is counted that the loader does not count
	}
	if e := b.rearm(); e != nil {
		err = fmt.Errorf("%w (and its boot entry could not be changed: %w)", err, e)
	}
	fail(err)
}

// fail says what is wrong and reboots. The console gets it directly, for the
// kernel's log may not be shown there.
func fail(err error) {
	text := fmt.Sprintf("ashlar: cannot boot: %v. The machine reboots in %d seconds.", err, int(rebootAfter.Seconds()))
	text = strings.ReplaceAll(text, "\n", "; ")
	say(levelDebug, text)
	if console, err := os.OpenFile("/dev/console", os.O_WRONLY, 0); err == nil {
		fmt.Fprintf(console, "\r\n%s\r\n", text)
		console.Close()
	} else {
		fmt.Fprintf(os.Stderr, "\r\n%s\r\n", text)
	}
	unix.Sync()
	time.Sleep(rebootAfter) // for the reader; nothing is awaited
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	os.Exit(1) // the kernel panics when its first process ends, and reboots then
}

// offAfter is how long a failure can be read before a machine turns itself off.
const offAfter = time.Minute

// giveUp ends a boot from a medium, which has no other system to go back to: it
// would come back here for ever.
func giveUp(err error) {
	turnOff(fmt.Sprintf("cannot boot: %s", strings.ReplaceAll(err.Error(), "\n", "; ")))
}

// turnOff says on every console why the machine turns itself off, and does.
func turnOff(why string) {
	text := fmt.Sprintf("ashlar: %s. The machine turns itself off in %d seconds.", why, int(offAfter.Seconds()))
	say(levelDebug, text)
	everyConsole().print("\r\n" + text + "\r\n")
	unix.Sync()
	time.Sleep(offAfter) // for the reader; nothing is awaited
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// Levels of the kernel's log; with "quiet" the console shows neither.
const (
	levelWarning = 4
	levelInfo    = 6
	levelDebug   = 7
)

// say writes a line to the kernel's log, which shows it on the console as far
// as the command line lets it.
func say(level int, text string) {
	kmsg, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return // before /dev is mounted there is nobody to tell
	}
	defer kmsg.Close()
	fmt.Fprintf(kmsg, "<%d>ashlar-init: %s\n", level, text)
}

// firstFrame finds in a stack the place where a panic was raised.
func firstFrame(stack []byte) string {
	lines := strings.Split(string(stack), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "panic(") && i+3 < len(lines) {
			place, _, _ := strings.Cut(strings.TrimSpace(lines[i+3]), " ")
			return place
		}
	}
	return "an unknown place"
}

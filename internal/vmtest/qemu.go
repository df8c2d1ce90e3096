package vmtest

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// machine has no disk controller but those of its disks: the drivers of an idle one cost
// a boot some seconds.
const machine = "q35,sata=off"

// processor is a plain one, because a richer one is slower to emulate: for what it can do
// the kernel loads drivers, and programs choose routines that few real instructions stand
// for. QEMU 7.2's TCG breaks cmpxchg16b, which the kernel uses where the processor has it.
// KVM is not used even where /dev/kvm is there: nested in another hypervisor it can accept
// the machine and then die in the firmware.
const processor = "qemu64,-cx16,-svm"

// KernelArguments are added to the boot file's by systemd-stub(7); an image that takes
// nothing from outside has to have them in itself.
//
// On a busy host emulated timers tick too seldom for the kernel, which counts them for
// some 60 ms and then panics: "IO-APIC + timer doesn't work!". Under KVM it
// leaves that check out by itself.
//
// And units that no story looks at are left out: each costs a quarter of a second, all
// of them a sixth of a boot.
func KernelArguments() []string {
	arguments := []string{"no_timer_check"}
	for _, unit := range spared {
		arguments = append(arguments, "systemd.mask="+unit)
	}
	return arguments
}

var spared = []string{
	"dev-hugepages.mount", "dev-mqueue.mount", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "getty@tty1.service",
	"kmod-static-nodes.service", "modprobe@configfs.service", "modprobe@drm.service", "modprobe@efi_pstore.service", "modprobe@fuse.service",
	"proc-sys-fs-binfmt_misc.automount", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount",
	"sys-kernel-tracing.mount", "systemd-ask-password-console.path", "systemd-ask-password-wall.path", "systemd-boot-random-seed.service",
	"systemd-bootctl.socket", "systemd-creds.socket", "systemd-fsck-root.service", "systemd-hibernate-clear.service", "systemd-logind.service",
	"systemd-network-generator.service", "systemd-networkd-persistent-storage.service", "systemd-pstore.service", "systemd-resolved.service",
	"systemd-sysext.socket", "systemd-udev-load-credentials.service",
}

// arguments is QEMU's command line; it connects to the sockets named qmp and agent.
func (vm *VM) arguments(sockets string) ([]string, error) {
	disks, err := vm.disks()
	if err != nil {
		return nil, err
	}
	mach := machine
	if vm.Firmware.SecureBoot {
		mach += ",smm=on"
	}
	args := []string{
		"qemu-system-x86_64", "-name", vm.Name, "-nodefaults", "-no-user-config", "-display", "none",
		"-action", "reboot=shutdown", // see live
		"-machine", mach, "-accel", "tcg,thread=multi", "-cpu", processor,
		"-smp", strconv.Itoa(vm.CPUs), "-m", strconv.Itoa(vm.Memory),
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + comma(vm.Firmware.Code),
		"-drive", "if=pflash,unit=1,format=raw,file=" + comma(vm.path("vars.fd")),
		"-device", "virtio-rng-pci",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=qmp,path=" + comma(filepath.Join(sockets, "qmp")), "-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=agent,path=" + comma(filepath.Join(sockets, "agent")),
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=" + agentPort,
	}
	args = append(args, disks...)
	if !vm.Offline {
		args = append(args, "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=")
	}
	if vm.Firmware.SecureBoot {
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	if !vm.Closed {
		for _, value := range append(vm.credentials(), "io.systemd.stub.kernel-cmdline-extra="+strings.Join(KernelArguments(), " ")) {
			args = append(args, SMBIOS(value)...)
		}
	}
	return append(args, vm.Args...), nil
}

// credentials are the SMBIOS strings that PID 1 imports; systemd.system-credentials(7).
func (vm *VM) credentials() []string {
	all := make(map[string]string)
	for name, value := range vm.Credentials {
		all[name] = value
	}
	all["systemd.extra-unit.vmtest.service"] = agentUnit()
	all["systemd.unit-dropin.multi-user.target"] = "[Unit]\nWants=vmtest.service\n"
	var list []string
	for name, value := range all {
		list = append(list, Credential(name, value))
	}
	sort.Strings(list)
	return list
}

// Credential is the SMBIOS string that gives systemd a credential.
func Credential(name, value string) string {
	return fmt.Sprintf("io.systemd.credential.binary:%s=%s", name, base64.StdEncoding.EncodeToString([]byte(value)))
}

// SMBIOS are QEMU's arguments for a string of SMBIOS type 11.
func SMBIOS(value string) []string { return []string{"-smbios", "type=11,value=" + comma(value)} }

// comma doubles commas, which separate the parts of QEMU's options.
func comma(s string) string { return strings.ReplaceAll(s, ",", ",,") }

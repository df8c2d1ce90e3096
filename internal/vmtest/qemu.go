package vmtest

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// machine is the accelerator and processor. QEMU 7.2's TCG breaks cmpxchg16b,
// which the kernel uses where the CPU has it; five-level page tables only slow
// emulation down. KVM is not used even where /dev/kvm is there: nested in
// another hypervisor it can accept the machine and then die in the firmware.
const machine = "q35"

// kernelArguments are added to the boot file's by systemd-stub(7). On a busy
// host emulated timers tick too seldom for the kernel, which counts them for
// some 60 ms and then panics: "IO-APIC + timer doesn't work!". Under KVM it
// leaves that check out by itself.
const kernelArguments = "io.systemd.stub.kernel-cmdline-extra=no_timer_check"

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
		"-machine", mach, "-accel", "tcg,thread=multi", "-cpu", "max,-cx16,la57=off",
		"-smp", strconv.Itoa(vm.CPUs), "-m", strconv.Itoa(vm.Memory),
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + comma(vm.Firmware.Code),
		"-drive", "if=pflash,unit=1,format=raw,file=" + comma(vm.path("vars.fd")),
		"-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
		"-device", "virtio-rng-pci",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=qmp,path=" + comma(filepath.Join(sockets, "qmp")), "-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=agent,path=" + comma(filepath.Join(sockets, "agent")),
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=" + agentPort,
	}
	args = append(args, disks...)
	if vm.Firmware.SecureBoot {
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	if !vm.Closed {
		for _, value := range append(vm.credentials(), kernelArguments) {
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

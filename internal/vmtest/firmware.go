package vmtest

// OVMFSecureBoot is OVMF that knows Secure Boot, in setup mode: it has no keys
// until somebody enrols some. Its variables are in flash that only code in
// system management mode may write to, as on hardware.
var OVMFSecureBoot = Firmware{
	Code: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", Vars: "/usr/share/OVMF/OVMF_VARS_4M.fd", SecureBoot: true,
}

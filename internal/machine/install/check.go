package install

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Shapes of words that become lines of configuration files. Each keeps out what
// would begin another line or field, and what the file's readers refuse.
var (
	hostnameShape = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
	localeShape   = regexp.MustCompile(`^[A-Za-z]{1,8}(_[A-Z]{2})?(\.[A-Za-z0-9-]{1,16})?(@[a-z]{1,16})?$`)
	keyboardShape = regexp.MustCompile(`^[a-z]{2,12}(-[a-z0-9_]{1,24})?$`)
	zoneShape     = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9][A-Za-z0-9_+-]*){0,2}$`)
	userShape     = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	hashShape     = regexp.MustCompile(`^\$(y|gy|7|2b|6)\$[./A-Za-z0-9$=,]{8,}$`) // crypt(5), without those of the past
	sshKeyShape   = regexp.MustCompile(`^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com) [A-Za-z0-9+/]{20,}={0,2}( [^\x00-\x1f]{0,200})?$`)
	wordShape     = regexp.MustCompile(`^[!-~]+$`)
)

const (
	maxPassword   = 200 // bytes
	maxPassphrase = 512 // bytes, cryptsetup's own limit
	maxHash       = 384 // bytes, CRYPT_OUTPUT_SIZE of libcrypt
	maxSSHKeys    = 50
	maxSSHKey     = 16 << 10 // bytes
)

// Check names the first answer that cannot be right, whatever the disks and the
// image are.
func (a *Answers) Check() error {
	for _, f := range []struct {
		name, value string
		shape       *regexp.Regexp
		want        string
	}{
		{"disk.id", a.Disk.ID, wordShape, "a word"},
		{"disk.erase", a.Disk.Erase, wordShape, "a word"},
		{"var.disk", a.Var.Disk, wordShape, "a word"},
		{"var.erase", a.Var.Erase, wordShape, "a word"},
		{"system.hostname", a.System.Hostname, hostnameShape, "a host name: small letters, digits and dashes"},
		{"system.locale", a.System.Locale, localeShape, "a locale, such as de_DE.UTF-8"},
		{"system.keyboard", a.System.Keyboard, keyboardShape, "a keyboard layout, such as de"},
		{"system.timezone", a.System.Timezone, zoneShape, "a time zone, such as Europe/Berlin"},
		{"user.name", a.User.Name, userShape, "a login name: small letters, digits, dashes, beginning with a letter"},
		{"updates.repository", a.Updates.Repository, wordShape, "a word"},
		{"updates.channel", a.Updates.Channel, wordShape, "a word"},
	} {
		if f.value != "" && (len(f.value) > 400 || !f.shape.MatchString(f.value)) {
			return fmt.Errorf("field %q: %.80q is not %s", f.name, f.value, f.want)
		}
	}
	if err := a.Var.check(&a.Disk); err != nil {
		return err
	}
	if len(a.System.Hostname) > 64 {
		return fmt.Errorf("field %q: %q is longer than 64 characters", "system.hostname", a.System.Hostname)
	}
	if p := a.Encryption.Passphrase; len(p) > maxPassphrase || !typable(p) {
		return fmt.Errorf("field %q: a passphrase has at most %d bytes, and no control characters: it is typed at every boot", "encryption.passphrase", maxPassphrase)
	}
	if allowed := []string{"", "reboot", "poweroff", "wait"}; !slices.Contains(allowed, a.Then) {
		return fmt.Errorf("field %q: %.80q is none of %s", "then", a.Then, strings.Join(allowed[1:], ", "))
	}
	return a.User.check()
}

func (u *User) check() error {
	switch {
	case u.Name == "" && (u.FullName != "" || u.Password != "" || u.PasswordHash != "" || len(u.SSHKeys) > 0):
		return fmt.Errorf("field %q is missing, and there are other words on the user", "user.name")
	case u.Name == "":
		return nil
	case u.Name == "root":
		return fmt.Errorf("field %q: root is no name for a user; it stays locked", "user.name")
	case u.Password != "" && u.PasswordHash != "":
		return fmt.Errorf("there are both %q and %q", "user.password", "user.password_hash")
	case u.Password == "" && u.PasswordHash == "" && len(u.SSHKeys) == 0:
		return fmt.Errorf("the user %q could not log in: give %q, %q or %q", u.Name, "user.password", "user.password_hash", "user.ssh_keys")
	case len(u.Password) > maxPassword || !typable(u.Password):
		return fmt.Errorf("field %q: a password has at most %d bytes, and no control characters", "user.password", maxPassword)
	case u.PasswordHash != "" && (len(u.PasswordHash) > maxHash || !hashShape.MatchString(u.PasswordHash)):
		return fmt.Errorf("field %q is not a hash of crypt(5): yescrypt, scrypt, bcrypt or sha512crypt", "user.password_hash")
	case len(u.FullName) > 100 || strings.ContainsAny(u.FullName, ":,=") || !typable(u.FullName):
		return fmt.Errorf("field %q: %.80q has more than 100 bytes, or a colon, comma, equals sign or control character", "user.full_name", u.FullName)
	case len(u.SSHKeys) > maxSSHKeys:
		return fmt.Errorf("field %q has more than %d keys", "user.ssh_keys", maxSSHKeys)
	}
	for i, key := range u.SSHKeys {
		if len(key) > maxSSHKey || !sshKeyShape.MatchString(key) {
			return fmt.Errorf("field %q: key %d is not a line of authorized_keys without options", "user.ssh_keys", i+1)
		}
	}
	return nil
}

// typable reports whether all of s can be typed.
func typable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

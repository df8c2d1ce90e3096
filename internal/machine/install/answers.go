package install

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// MaxAnswers is the length of an answers file, in bytes: that of its region on a medium.
const MaxAnswers = 256 << 10

// AnswersSchema is the version of the answers file that this package reads.
const AnswersSchema = 1

// Answers are what an installation has to be told. The field tags are the schema too
// (see [Schema]).
type Answers struct {
	Schema     int        `toml:"schema" doc:"version of this format" const:"1" required:"true"`
	Disk       DiskAnswer `toml:"disk" doc:"where to install"`
	Var        VarAnswer  `toml:"var" doc:"a disk of its own for /var; without: /var is on the root partition"`
	Encryption Encryption `toml:"encryption" doc:"encryption of the root partition, and of /var where that has a disk of its own"`
	System     System     `toml:"system" doc:"what the machine is called, and how it speaks"`
	User       User       `toml:"user" doc:"the first user, with the number 1000; root stays locked"`
	Updates    Updates    `toml:"updates" doc:"where updates are looked for"`
	Then       string     `toml:"then" doc:"what to do at the end" enum:"reboot,poweroff,wait"`
}

// DiskAnswer names a disk.
type DiskAnswer struct {
	ID      string `toml:"id" doc:"stable id of the disk, as ashlar install --plan lists it; may be left out where there is one disk and nothing on it"`
	Erase   string `toml:"erase" doc:"the id or the serial number of the disk once more: allows to erase what is on it"`
	KeepVar bool   `toml:"keep_var" doc:"the disk has an Ashlar: keep its /var with the home directories, and replace the system"`
}

// VarAnswer names a second disk, for /var alone.
type VarAnswer struct {
	Disk  string `toml:"disk" doc:"stable id of the disk, another one than the system's; it is never chosen by itself"`
	Erase string `toml:"erase" doc:"the id or the serial number of that disk once more: allows to erase what is on it"`
}

// Encryption is how the root partition is encrypted.
type Encryption struct {
	Passphrase string `toml:"passphrase" doc:"asked for at every boot; empty: no encryption. With keep_var: the passphrase that the disk has"`
}

// System is the machine's settings.
type System struct {
	Hostname string `toml:"hostname" doc:"name of the machine"`
	Locale   string `toml:"locale" doc:"such as de_DE.UTF-8"`
	Keyboard string `toml:"keyboard" doc:"layout, such as de or us"`
	Timezone string `toml:"timezone" doc:"such as Europe/Berlin"`
}

// User is the first user.
type User struct {
	Name         string   `toml:"name" doc:"login name; empty: no user is made"`
	FullName     string   `toml:"full_name" doc:"for people"`
	Password     string   `toml:"password" doc:"in plain text; the disk gets a hash of it"`
	PasswordHash string   `toml:"password_hash" doc:"as crypt(5) has it, instead of a password"`
	SSHKeys      []string `toml:"ssh_keys" doc:"lines for authorized_keys"`
}

// Updates is where the machine looks for updates; empty fields: where the medium's
// image says.
type Updates struct {
	Repository string `toml:"repository" doc:"such as registry.example/acme/server; empty: what the image says"`
	Channel    string `toml:"channel" doc:"such as stable; empty: what the image says"`
}

// ReadAnswers reads an answers file strictly: known fields only. name is what errors
// call it. Zero bytes at the end are not of it: a medium's region is padded with them.
func ReadAnswers(name string, data []byte) (*Answers, error) {
	data = bytes.TrimRight(data, "\x00")
	if len(data) > MaxAnswers {
		return nil, fmt.Errorf("%q is longer than %d KiB", name, MaxAnswers>>10)
	}
	a := new(Answers)
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(a); err != nil {
		return nil, explainTOML(name, err)
	}
	if a.Schema != AnswersSchema {
		return nil, fmt.Errorf("%q: field %q is %d, and this installer reads %d", name, "schema", a.Schema, AnswersSchema)
	}
	if err := a.Check(); err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return a, nil
}

// explainTOML names the line, and no content of it: there are passwords in the file.
func explainTOML(name string, err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		line, _ := strict.Errors[0].Position()
		return fmt.Errorf("%q: line %d: unknown key %q", name, line, strings.Join(strict.Errors[0].Key(), "."))
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		line, _ := decode.Position()
		return fmt.Errorf("%q: line %d: %s", name, line, strings.TrimPrefix(decode.Error(), "toml: "))
	}
	return fmt.Errorf("%q: %w", name, err)
}

package secureboot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/efivar"
	"github.com/ashlar-os/ashlar/internal/machine/boot"
)

// EnrolPlan says which of the firmware's variables enrolling will write, in
// that order.
type EnrolPlan struct {
	Mode      Mode     `json:"mode"`      // now
	Variables []string `json:"variables"` // empty: the firmware has these keys
	Starts    []string `json:"starts"`    // files of the ESP that were found to start under them

	updates []update
}

type update struct {
	efivar.Variable
	raw []byte
}

// PlanEnrol works out what gives the firmware the keys of e. programs are the
// files without which this machine would not start, loaders and boot files: the
// keys must allow all of them, or the next start would be the last.
func (s *State) PlanEnrol(e *efivar.Enrolment, programs []string) (*EnrolPlan, error) {
	plan := &EnrolPlan{Mode: s.Mode, Variables: []string{}, Starts: []string{}}
	if s.Err != nil {
		return nil, fmt.Errorf("cannot enrol keys: %w", s.Err)
	}
	switch {
	case s.Mode == Setup:
		// db and KEK first: with PK the firmware leaves setup mode, and a cut
		// before that leaves it in there.
		plan.updates = []update{{efivar.DB, e.RawDB}, {efivar.KEK, e.RawKEK}, {efivar.PK, e.RawPK}}
	case !holdsAll(s.pk, e.PK.Entries):
		return nil, fmt.Errorf("cannot enrol keys: this machine's firmware has a platform key already, of %s, and takes no other; clear its keys in its settings (setup mode) first", s.owner())
	case !holdsAll(s.db.entries, e.DB.Entries) || !holdsAll(e.DB.Entries, s.db.entries):
		plan.updates = []update{{efivar.DB, e.RawDB}}
	default:
		return plan, nil
	}
	if err := plan.check(s, e, programs); err != nil {
		return nil, fmt.Errorf("cannot enrol keys: %w", err)
	}
	for _, u := range plan.updates {
		plan.Variables = append(plan.Variables, u.Name)
	}
	return plan, nil
}

// check judges the programs by the db that will be.
func (p *EnrolPlan) check(s *State, e *efivar.Enrolment, programs []string) error {
	after := &State{db: newDatabase(e.DB.Entries), dbx: s.dbx}
	if len(programs) == 0 {
		return errors.New("there is no loader on the ESP that would start")
	}
	for _, path := range programs {
		v, err := after.JudgeFile(path)
		if err != nil {
			return err
		}
		if !v.Trusted {
			return fmt.Errorf("%q would not start any more: %s", path, v.Reason)
		}
		p.Starts = append(p.Starts, path)
	}
	return nil
}

// owner is whose platform key it is, as far as that can be read.
func (s *State) owner() string {
	certs, _ := efivar.Certificates(s.pk)
	if len(certs) == 0 {
		return "somebody"
	}
	return fmt.Sprintf("%q", certs[0].Subject)
}

func holdsAll(have, want []efivar.Entry) bool {
	in := make(map[string]bool)
	for _, e := range have {
		in[string(e.Type[:])+string(e.Data)] = true
	}
	for _, e := range want {
		if !in[string(e.Type[:])+string(e.Data)] {
			return false
		}
	}
	return true
}

// Apply writes the variables below root. Each write is whole or not at all,
// the firmware sees to that.
func (p *EnrolPlan) Apply(root string) error {
	for _, u := range p.updates {
		err := writeVariable(boot.VariablePath(root, u.File()), u.raw)
		if errors.Is(err, unix.EACCES) { // EFI_SECURITY_VIOLATION
			err = fmt.Errorf("the update is older than the last one, or signed by nobody who may change it (%w)", err)
		}
		if err != nil {
			return fmt.Errorf("the firmware does not take %s: %w", u.Name, err)
		}
	}
	return nil
}

// immutable is FS_IMMUTABLE_FL: efivarfs sets it on most variables, so that
// nobody deletes them by accident.
const immutable = 0x10

// writeVariable gives the firmware a signed update, in the one write(2) that
// efivarfs wants: four bytes of attributes, then the update.
func writeVariable(path string, update []byte) (err error) {
	if err := makeMutable(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.Write(append([]byte{efivar.Attributes, 0, 0, 0}, update...))
	return err
}

func makeMutable(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if errors.Is(err, unix.ENOTTY) || err == nil && flags&immutable == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the flags of %q: %w", path, err)
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags&^immutable)); err != nil {
		return fmt.Errorf("making %q writable: %w", path, err)
	}
	return nil
}

// Loaders are where firmware looks for a loader on the ESP, of those that are
// there.
func Loaders(esp string) ([]string, error) {
	var there []string
	for _, name := range []string{"EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"} {
		switch _, err := os.Stat(filepath.Join(esp, name)); {
		case err == nil:
			there = append(there, name)
		case !errors.Is(err, os.ErrNotExist):
			return nil, err
		}
	}
	return there, nil
}

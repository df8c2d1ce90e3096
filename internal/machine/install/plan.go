package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/secureboot"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/program"
)

// Installer is a computer that was started from a medium.
type Installer struct {
	Medium   update.Medium
	Running  verity.Digest     // the image that the medium started
	Root     []byte            // update.RootPath of that image
	Arch     string            // of the computer; "" is this program's own
	Firmware *secureboot.State // what it starts; nil: everything
	Work     string            // a directory of its own, such as /run/ashlar/install
	System   string            // "/"; below it are sys/firmware/efi/efivars
	Sealer   store.Sealer      // nil: store.Kernel

	Now    func() time.Time // nil: time.Now
	Random io.Reader        // nil: crypto/rand
	Log    func(string)     // told of each step; may be nil

	esp    fileSystem // the zero value: FAT
	mounts mounts     // the zero value: kernel
	pbkdf  []string   // how slow guesses at a passphrase are; nil: as cryptsetup finds right here
}

// The modes of a plan.
const (
	Blank   = "blank"    // nothing that is known is on the disk
	Erase   = "erase"    // what is on the disk is lost
	KeepVar = "keep-var" // /var stays, the system is replaced
)

// PlanSchema is the version of Plan's JSON.
const PlanSchema = 1

// Plan is what an installation will do.
type Plan struct {
	Schema     int          `json:"schema"`
	Release    Release      `json:"release"`
	Disk       Disk         `json:"disk"`
	Mode       string       `json:"mode"`
	Partitions []Partition  `json:"partitions"`
	Var        *PlanVar     `json:"var"`   // null: /var is on the root partition, or where the machine that is kept has it
	Bytes      int64        `json:"bytes"` // to be copied
	System     PlanSystem   `json:"system"`
	User       *PlanUser    `json:"user"` // null: none is made
	Origin     store.Origin `json:"origin"`
	Warnings   []string     `json:"warnings"`

	answers Answers
	disks   []Disk // of this computer
	image   *image
	loader  []byte
}

// Release is what is installed.
type Release struct {
	ID       string        `json:"id"`
	Image    verity.Digest `json:"image"`
	Document string        `json:"document"` // "sha256:…" of the release document that was signed
}

// PlanSystem is the machine's settings; what is empty stays as the image has it.
type PlanSystem struct {
	Hostname string `json:"hostname"`
	Locale   string `json:"locale"`
	Keyboard string `json:"keyboard"`
	Timezone string `json:"timezone"`
}

// PlanUser is the first user, without secrets.
type PlanUser struct {
	Name     string   `json:"name"`
	FullName string   `json:"full_name"`
	Groups   []string `json:"groups"` // beside the user's own
	Password bool     `json:"password"`
	SSHKeys  int      `json:"ssh_keys"`
}

// Plan believes the medium, or refuses it, and works out what the answers mean on
// these disks. It reads; it writes nothing.
func (in *Installer) Plan(ctx context.Context, a *Answers, disks []Disk) (*Plan, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	programs := []string{"mkfs.vfat", "mke2fs"}
	if a.Encryption.Passphrase != "" {
		programs = append(programs, "cryptsetup")
	}
	if err := program.Check(programs...); err != nil {
		return nil, fmt.Errorf("the image cannot install itself: %w", err)
	}
	found, err := in.believe(ctx)
	if err != nil {
		return nil, err
	}
	doc, _ := found.Document()
	root := doc.Root()
	img, err := openImage(in.Medium.Payload, root.Digest, root.Size)
	if err != nil {
		return nil, err
	}
	p := &Plan{
		Schema: PlanSchema, Release: Release{doc.ID, root.Digest, doc.Digest}, Warnings: []string{},
		System: PlanSystem(a.System), answers: *a, disks: disks, image: img,
	}
	n := need{content: root.Size, uki: doc.UKI.Size}
	for _, o := range img.Objects() {
		n.content += int64(o.Size)
		n.objects++
	}
	p.Bytes = n.content + n.uki
	if err := p.place(disks, n); err != nil {
		return nil, err
	}
	if err := p.placeVar(disks); err != nil {
		return nil, err
	}
	if p.loader, err = in.loader(img); err != nil {
		return nil, err
	}
	if err := p.settle(); err != nil {
		return nil, err
	}
	return p, nil
}

// believe checks the papers without a disk to remember anything on.
func (in *Installer) believe(ctx context.Context) (*update.Finding, error) {
	m := &update.Machine{Root: in.Root, Arch: in.Arch, Now: in.Now}
	found, err := m.CheckMedium(ctx, in.Medium, store.Origin{})
	if err != nil {
		return nil, err
	}
	if found.Verdict == update.Withdrawn {
		return nil, fmt.Errorf("cannot install %s: %s", found.ID, found.Reason)
	}
	doc, _ := found.Document()
	if d := doc.Root().Digest; !in.Running.IsZero() && d != in.Running {
		return nil, fmt.Errorf("cannot trust this medium: it started the image %s, and its papers are of %s", in.Running.Short(), d.Short())
	}
	return found, nil
}

// place chooses the disk and divides it.
func (p *Plan) place(disks []Disk, n need) error {
	a := &p.answers
	d, err := choose(&a.Disk, disks)
	if err != nil {
		return err
	}
	p.Disk = *d
	encrypted := a.Encryption.Passphrase != ""
	switch {
	case a.Disk.KeepVar:
		p.Mode = KeepVar
		p.Partitions, err = keep(d, n, encrypted)
		return err
	case d.Content == "":
		p.Mode = Blank
	case d.IsNamed(a.Disk.Erase):
		p.Mode = Erase
	case a.Disk.Erase != "":
		return fmt.Errorf("what may be erased is %q (field %q), and the disk that was chosen is %q", a.Disk.Erase, "disk.erase", d.ID)
	default:
		return &NotEmptyError{*d, "disk"}
	}
	p.Partitions, err = divide(d, n, encrypted)
	return err
}

// NotEmptyError is a disk with something on it that nobody allowed to erase.
type NotEmptyError struct {
	Disk    Disk
	Section string // of the answers that names it: "disk" or "var"
}

func (e *NotEmptyError) Error() string {
	return fmt.Sprintf("the disk %s is not empty: %s", e.Disk.ID, e.Disk.Describe())
}

// Hint is how to allow it.
func (e *NotEmptyError) Hint() string {
	return fmt.Sprintf("to lose all of that, say erase = %q below [%s] in the answers", e.Disk.ID, e.Section)
}

// settle finds out what the image makes of the wishes.
func (p *Plan) settle() error {
	a := &p.answers
	if zone := a.System.Timezone; zone != "" && p.image.inode("/usr/share/zoneinfo/"+zone) == nil {
		return fmt.Errorf("the image has no time zone %q", zone)
	}
	origin, err := p.image.origin()
	if err != nil {
		return err
	}
	p.Origin = origin
	if a.Updates.Repository != "" {
		p.Origin = store.Origin{Repository: a.Updates.Repository}
	}
	if a.Updates.Channel != "" {
		p.Origin.Channel = a.Updates.Channel
	}
	if p.Origin.Repository != "" && p.Origin.Channel == "" {
		p.Origin.Channel = "stable"
	}
	if p.Origin.Repository == "" {
		p.Warnings = append(p.Warnings, "neither the answers nor the image say where updates are: the machine gets none")
	}
	if a.User.Name == "" {
		p.Warnings = append(p.Warnings, "no user is made, and root is locked: only what the image brings can log in")
		return nil
	}
	accounts, err := readAccounts(p.image)
	if err != nil {
		return err
	}
	p.User = &PlanUser{
		Name: a.User.Name, FullName: a.User.FullName, Groups: accounts.groups(),
		Password: a.User.Password != "" || a.User.PasswordHash != "", SSHKeys: len(a.User.SSHKeys),
	}
	return accounts.mayAdd(a.User.Name)
}

// Lines says in words what will be done, for people.
func (p *Plan) Lines() []string {
	lines := []string{
		fmt.Sprintf("Install     %s (image %s)", p.Release.ID, p.Release.Image.Short()),
		fmt.Sprintf("on          %s", p.Disk.Describe()),
		fmt.Sprintf("            %s", p.Disk.ID),
	}
	switch p.Mode {
	case Erase:
		lines = append(lines, "            EVERYTHING ON IT IS LOST")
	case KeepVar:
		lines = append(lines, "            /var with the home directories is kept, the system is replaced")
	}
	for _, part := range p.Partitions {
		lines = append(lines, part.line())
	}
	lines = append(lines, p.Var.lines()...)
	add := func(name, value string) {
		if value != "" {
			lines = append(lines, fmt.Sprintf("%-11s %s", name, value))
		}
	}
	add("Host name", p.System.Hostname)
	add("Language", p.System.Locale)
	add("Keyboard", p.System.Keyboard)
	add("Time zone", p.System.Timezone)
	if u := p.User; u != nil {
		words := []string{u.Name}
		if len(u.Groups) > 0 {
			words = append(words, "in "+strings.Join(u.Groups, ", "))
		}
		if u.Password {
			words = append(words, "password")
		}
		if u.SSHKeys > 0 {
			words = append(words, fmt.Sprintf("SSH keys: %d", u.SSHKeys))
		}
		add("User", strings.Join(words, "; "))
	}
	if p.Origin.Repository != "" {
		add("Updates", p.Origin.Repository+":"+p.Origin.Channel)
	}
	for _, w := range p.Warnings {
		add("Note", w)
	}
	return lines
}

// line says what a partition is.
func (p *Partition) line() string {
	word := p.FileSystem
	if p.Encrypted {
		word += ", encrypted (LUKS2)"
	}
	return fmt.Sprintf("Partition %d %s, %d MB, %s", p.Number, p.Name, p.Size/1e6, word)
}

// Where an image keeps systemd-boot, the signed one first, which starts with and
// without Secure Boot.
var loaderPaths = []string{
	"/usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed",
	"/usr/lib/systemd/boot/efi/systemd-bootx64.efi",
}

// loader reads the loader that the image brings along. Firmware has to start it.
func (in *Installer) loader(img *image) ([]byte, error) {
	for _, path := range loaderPaths {
		b, err := img.file(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := in.Firmware.Check(bytes.NewReader(b), int64(len(b))); err != nil {
			return nil, fmt.Errorf("the loader of the image: %w", err)
		}
		return b, nil
	}
	return nil, fmt.Errorf("the image has no %q, so its disk could not boot: its recipe needs the package systemd-boot-efi", loaderPaths[1])
}

func (in *Installer) log(format string, args ...any) {
	if in.Log != nil {
		in.Log(fmt.Sprintf(format, args...))
	}
}

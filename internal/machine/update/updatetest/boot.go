package updatetest

import (
	"bytes"
	"debug/pe"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Disk is what a computer boots from, mounted: a directory or anything that can
// be read like one. Below its root are sysroot/ and efi/.
type Disk interface {
	ReadFile(name string) ([]byte, error)
	List(dir string) []string
}

// bootFiles is where the loader looks.
const bootFiles = "efi/EFI/Linux"

// dirDisk is a Disk that is a directory.
type dirDisk string

func (d dirDisk) ReadFile(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(d), name))
}

func (d dirDisk) List(dir string) (names []string) {
	list, _ := os.ReadDir(filepath.Join(string(d), dir)) // what cannot be listed has nothing to boot
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

const inStore = "sysroot/ashlar/"

// option is a boot file as the loader sees it.
type option struct {
	file       string
	stem       string
	left, done int // left -1: not counted
	key        string
	version    []int
	image      string // the hexadecimal digits on its command line
}

var counted = regexp.MustCompile(`^(.*)\+(\d+)(?:-(\d+))?\.efi$`)

// options reads EFI/Linux and sorts it: out of tries last, sort key, newest
// version, and of two with one version the file name that sorts last.
func options(d Disk) ([]option, error) {
	var list []option
	for _, name := range d.List(bootFiles) {
		o := option{file: name, stem: strings.TrimSuffix(name, ".efi"), left: -1}
		if o.stem == name {
			continue
		}
		if m := counted.FindStringSubmatch(name); m != nil {
			o.stem = m[1]
			o.left, _ = strconv.Atoi(m[2])
			o.done, _ = strconv.Atoi(m[3])
		}
		b, err := d.ReadFile(bootFiles + "/" + name)
		if err != nil {
			return nil, err
		}
		p, err := pe.NewFile(bytes.NewReader(b))
		if err != nil {
			continue
		}
		section := func(name string) []byte {
			s := p.Section(name)
			if s == nil {
				return nil
			}
			data, err := s.Data()
			if err != nil {
				return nil // the file ends before it does
			}
			return data[:min(s.VirtualSize, uint32(len(data)))]
		}
		osrel := lines(section(".osrel"))
		o.key = first(osrel["IMAGE_ID"], osrel["ID"])
		for _, part := range strings.Split(first(osrel["IMAGE_VERSION"], osrel["VERSION_ID"]), ".") {
			n, err := strconv.Atoi(part)
			if err != nil {
				return nil, fmt.Errorf("%q: version %q is none of ours", name, osrel["IMAGE_VERSION"])
			}
			o.version = append(o.version, n)
		}
		for _, word := range strings.Fields(string(section(".cmdline"))) {
			if v, ok := strings.CutPrefix(word, "ashlar.image="); ok {
				o.image = v
			}
		}
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b option) int {
		if (a.left == 0) != (b.left == 0) {
			if a.left == 0 {
				return 1
			}
			return -1
		}
		if n := strings.Compare(a.key, b.key); n != 0 {
			return n
		}
		if n := slices.Compare(b.version, a.version); n != 0 {
			return n
		}
		return strings.Compare(b.file, a.file)
	})
	return list, nil
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// Choice is the boot file that the loader would start now, and its image; an
// empty name means that there is none.
func Choice(d Disk) (file string, image verity.Digest, err error) {
	list, err := options(d)
	if err != nil || len(list) == 0 {
		return "", image, err
	}
	image, err = verity.Parse(list[0].image)
	return list[0].file, image, err
}

type description struct {
	Image   string `json:"image"`
	EtcFrom string `json:"etc_from"`
}

func describe(disk Disk, d verity.Digest) (dep description, err error) {
	b, err := disk.ReadFile(inStore + "deployments/" + d.String() + "/deployment.json")
	if err != nil {
		return dep, err
	}
	return dep, json.Unmarshal(b, &dep)
}

// Whole says what is missing of an image for it to boot: it reads every byte.
func Whole(disk Disk, d verity.Digest) error {
	if err := content(disk, d); err != nil {
		return err
	}
	dep, err := describe(disk, d)
	if err != nil {
		return err
	}
	if dep.Image != d.String() {
		return fmt.Errorf("the deployment of %s describes %s", d.Short(), dep.Image)
	}
	// /etc of another deployment is merged over the other's image.
	if _, err := disk.ReadFile(inStore + "deployments/" + d.String() + "/etc.json"); dep.EtcFrom != "" && err != nil {
		base, err := verity.Parse(dep.EtcFrom)
		if err != nil {
			return err
		}
		if len(disk.List(inStore+"deployments/"+dep.EtcFrom)) == 0 {
			return &fs.PathError{Op: "open", Path: "deployments/" + dep.EtcFrom, Err: fs.ErrNotExist}
		}
		return content(disk, base)
	}
	return nil
}

// content reads an image and all of its objects.
func content(disk Disk, d verity.Digest) error {
	image, err := disk.ReadFile(inStore + "images/" + d.String())
	if err != nil {
		return err
	}
	if got := verity.SumBytes(image); got != d {
		return fmt.Errorf("image %s has the digest %s", d.Short(), got)
	}
	t, err := composefs.ReadBytes(image)
	if err != nil {
		return err
	}
	for _, o := range t.Objects() {
		b, err := disk.ReadFile(inStore + "objects/" + composefs.ObjectPath(o.Digest))
		if err != nil {
			return err
		}
		if got := verity.SumBytes(b); got != o.Digest {
			return fmt.Errorf("object %s has the digest %s", o.Digest.Short(), got)
		}
	}
	return nil
}

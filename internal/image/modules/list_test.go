package modules

import (
	"bytes"
	"path"
	"reflect"
	"strings"
	"testing"
)

const example = `ashlar-modules 1 6.12.1
module scsi_common matched
module scsi_mod matched scsi_common
module crc32c_intel matched
module erofs always ?crc32c_intel
alias crc32c_intel cpu:type:x86,ven*fam*mod*:feature:*0094*
alias scsi_mod scsi:t-0x0[0-4]*
`

func TestRoundTrip(t *testing.T) {
	l, err := Parse(strings.NewReader(example))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := l.Write(&b); err != nil {
		t.Fatal(err)
	}
	if b.String() != example {
		t.Errorf("written:\n%s\nread:\n%s", b.String(), example)
	}
	if m := l.Find("erofs"); m == nil || m.When != Always || !reflect.DeepEqual(m.Needs, []Need{{"crc32c_intel", true}}) {
		t.Errorf("erofs is %+v", m)
	}
	if got := l.Match("cpu:type:x86,ven0000fam0006mod0006:feature:,0001,0094,0099"); !reflect.DeepEqual(got, []string{"crc32c_intel"}) {
		t.Errorf("the processor matches %q", got)
	}
}

func TestBadLists(t *testing.T) {
	const head = "ashlar-modules 1 6.12\n"
	for text, want := range map[string]string{
		"":                                                "empty",
		"something 1 6.12\n":                              "begins with",
		"ashlar-modules 2 6.12\n":                         "begins with",
		head + "module erofs\n":                           "neither a module nor an alias",
		head + "module erofs sometimes\n":                 `loaded "sometimes"`,
		head + "module ../x always\n":                     "no module name",
		head + "module a always b\n":                      `needs "b"`,
		head + "module a always\nmodule a always\n":       "twice",
		head + "module a always b\nmodule b matched ?a\n": "needs itself",
		head + "alias b pci:*\n":                          `is for "b"`,
		head + "module a always " + strings.Repeat("b", maxLine): "too long",
		head + strings.Repeat("module a always\n", maxModules+1): "more than 4096",
	} {
		if _, err := Parse(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: error is %v, want one with %q", text, err, want)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"virtio:d00000002v*", "virtio:d00000002v00001AF4", true},
		{"virtio:d00000002v*", "virtio:d00000008v00001AF4", false},
		{"pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", true},
		{"usb:v05ACp12[9A]*d*", "usb:v05ACp12A8d0100dc", true},
		{"usb:v05ACp12[0-8]*d*", "usb:v05ACp12A8d0100dc", false},
		{"a*b*c", "aXbXbXc", true},
		{"a?c", "ac", false},
		{"*", "", true},
		{"", "", true},
		{"", "a", false},
		{"[", "[", true},
	} {
		if got := Glob(c.pattern, c.s); got != c.want {
			t.Errorf("Glob(%q, %q) is %t", c.pattern, c.s, got)
		}
	}
}

// path.Match is the oracle for patterns that mean the same to both.
func FuzzGlob(f *testing.F) {
	f.Add("a*b[0-9]?", "aXXb5c")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		got := Glob(pattern, s)
		if strings.ContainsAny(pattern, "[\\/") || strings.Contains(s, "/") || !ascii(pattern) || !ascii(s) {
			return
		}
		if want, err := path.Match(pattern, s); err == nil && got != want {
			t.Errorf("Glob(%q, %q) is %t", pattern, s, got)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := l.Write(&out); err != nil {
			t.Fatal(err)
		}
		again, err := Parse(&out)
		if err != nil || !reflect.DeepEqual(l, again) {
			t.Errorf("what was read is not read again as the same: %v", err)
		}
	})
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > '~' || r < ' ' }) < 0
}

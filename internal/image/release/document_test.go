package release

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

func sample() *Document {
	file := func(c string, size int64) File { return File{SHA256: strings.Repeat(c, 64), Size: size} }
	return &Document{
		Schema: Schema, ID: "server-1.0.0", Name: "server", Version: "1.0.0", Architecture: "amd64",
		Created: "2026-01-31T12:00:00Z",
		Images:  []Image{{Role: RoleRoot, Digest: verity.Digest{0xab, 31: 0xcd}, Size: 4096, Objects: 3, Bytes: 12345}},
		UKI:     file("1", 100), Pack: file("2", 200), PackIndex: file("3", 300), SBOM: file("4", 400), Lock: file("5", 500),
		RuleSet: RuleSet, ReachableFrom: "0.9.0",
		Users:  map[string]uint32{"root": 0, "Debian-exim": 101, "_apt": 42},
		Groups: map[string]uint32{"root": 0, "kvm": 994}, Builder: "ashlar 0.1.0",
	}
}

// The golden file is the format: a difference breaks every signature ever made.
func TestEncodeIsGolden(t *testing.T) {
	got, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "release.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	back, err := Decode(got)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, sample()) {
		t.Errorf("read back: %+v", back)
	}
	if back.Root().Objects != 3 {
		t.Errorf("root image: %+v", back.Root())
	}
}

// TestMedium: the one part that a release may do without.
func TestMedium(t *testing.T) {
	with := sample()
	with.Medium = &Medium{
		Size: 1 << 30, Map: File{strings.Repeat("6", 64), 600}, Blocks: File{strings.Repeat("7", 64), 8192},
		RootHash: strings.Repeat("8", 64),
	}
	got, err := with.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "medium.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if back, err := Decode(got); err != nil || !reflect.DeepEqual(back, with) {
		t.Errorf("read back: %+v, %v", back, err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"1073741824", "1073741825", `"medium.size"`},
		{"1073741824", "0", `"medium.size"`},
		{"1073741824", "4096", `"medium.size"`},
		{"8192", "8191", `"medium.size"`},
		{strings.Repeat("6", 64), "6", `"medium.map.sha256"`},
		{"8192", "-1", `"medium.blocks.size"`},
		{strings.Repeat("8", 64), strings.Repeat("G", 64), `"medium.root_hash"`},
		{`"root_hash"`, `"hash"`, "hash"},
	} {
		_, err := Decode([]byte(strings.Replace(string(got), c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s instead of %s: error %v, want one with %q", c.new, c.old, err, c.want)
		}
	}
}

func TestEncodeFillsEmptyMaps(t *testing.T) {
	d := sample()
	d.Users, d.Groups = nil, nil
	b, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(b); err != nil {
		t.Error(err)
	}
	if d.Users != nil {
		t.Error("Encode changed the document")
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	digest := sample().Images[0].Digest.String()
	for _, c := range []struct{ name, old, new, want string }{
		{"not JSON", "{", "[", "line"},
		{"cut", "\n}\n", "", "unexpected"},
		{"nothing", string(good), "", "unexpected end"},
		{"no schema", `"schema": 1`, `"scheme": 1`, `"schema" is missing`},
		{"newer schema", `"schema": 1`, `"schema": 2`, "this ashlar reads schema 1 only"},
		{"unknown field", `"id"`, `"extra": 1, "id"`, `"extra"`},
		{"repeated field", `"rule_set": 1,`, `"rule_set": 1, "rule_set": 1,`, "canonical form"},
		{"field in capitals", `"rule_set"`, `"Rule_Set"`, "canonical form"},
		{"other white space", "\n  \"id\"", "\n\t\"id\"", "line 3 is not"},
		{"trailing data", "\n}\n", "\n}\n{}", "line"},
		{"wrong type", `"size": 4096`, `"size": "4096"`, `"images.size"`},
		{"wrong id", `"id": "server-1.0.0"`, `"id": "server-1.0.1"`, `"id"`},
		{"name", `"server"`, `"../server"`, `"name"`},
		{"version", `"version": "1.0.0"`, `"version": "v1"`, `"version"`},
		{"version for a file name", `"version": "1.0.0"`, `"version": "1_0+3"`, `"version"`},
		{"architecture", `"amd64"`, `""`, `"architecture"`},
		{"time zone", `12:00:00Z`, `12:00:00+01:00`, `"created"`},
		{"short digest", digest, digest[1:], `"images[0].digest"`},
		{"zero digest", digest, strings.Repeat("0", 64), `"images[0].digest"`},
		{"role", `"role": "root"`, `"role": "king"`, `"images[0].role"`},
		{"no root", `"role": "root"`, `"role": "app"`, `"images"`},
		{"negative size", `"size": 4096`, `"size": -1`, `"images[0].size"`},
		{"huge size", `"size": 4096`, `"size": 2000000000000`, `"images[0].size"`},
		{"capital sha256", strings.Repeat("1", 64), strings.Repeat("A", 64), `"uki.sha256"`},
		{"empty lock", `"size": 500`, `"size": 0`, `"lock.size"`},
		{"rule set", `"rule_set": 1`, `"rule_set": 0`, `"rule_set"`},
		{"reachable from the future", `"0.9.0"`, `"1.0.1"`, `"reachable_from"`},
		{"account with a colon", `"_apt"`, `"_a:pt"`, `"users"`},
		{"id that is none", `"kvm": 994`, `"kvm": 4294967295`, `"groups"`},
		{"id below zero", `"kvm": 994`, `"kvm": -1`, `"groups`},
		{"builder", `ashlar 0.1.0`, `ashlar\u0007`, `"builder"`},
		{"null users", "\"users\": {\n    \"Debian-exim\": 101,\n    \"_apt\": 42,\n    \"root\": 0\n  }", `"users": null`, "canonical"},
	} {
		if n := strings.Count(string(good), c.old); n == 0 {
			t.Fatalf("%s: the case changes nothing", c.name)
		}
		bad := strings.Replace(string(good), c.old, c.new, 1)
		d, err := Decode([]byte(bad))
		if err == nil {
			t.Errorf("%s: accepted %+v", c.name, d)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "reading release document: ") {
			t.Errorf("%s: error %q does not contain %q", c.name, err, c.want)
		}
	}
	if _, err := Decode(make([]byte, MaxSize+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too long: %v", err)
	}
}

func TestEncodeRefusesTwoEqualImages(t *testing.T) {
	d := sample()
	d.Images = append(d.Images, d.Images[0])
	d.Images[1].Role = RoleApp
	if _, err := d.Encode(); err == nil || !strings.Contains(err.Error(), `"images[1].digest"`) {
		t.Error(err)
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct {
		check func(string) error
		good  string
		bad   string
	}{
		{CheckName, "server debian-13.x a 3d", "Server -a a- a_b a/b"},
		{CheckChannel, "stable v2 testing-1", "1.0 2 STABLE"},
		{CheckVersion, "1 1.0.0 2026.01.31-1 1.0~rc1 13A", "v1 ~1 1.0+3 1_0 1. 1^2 1/2"},
	} {
		for _, word := range strings.Fields(c.good) {
			if err := c.check(word); err != nil {
				t.Error(err)
			}
		}
		for _, word := range append(strings.Fields(c.bad), "", strings.Repeat("1", 65)) {
			if c.check(word) == nil {
				t.Errorf("%q is accepted", word)
			}
		}
	}
	if got := Tag("1.0~rc1"); got != "1.0_rc1" {
		t.Errorf("Tag: %q", got)
	}
}

func FuzzDecode(f *testing.F) {
	good, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	with, err := os.ReadFile(filepath.Join("testdata", "medium.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(with)
	f.Add([]byte(`{"schema": 1}`))
	f.Add([]byte(`{"schema": 1, "images": [{"digest": "00"}], "users": {"": 1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Decode(b)
		if err != nil {
			return
		}
		again, err := d.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("what Decode takes, Encode must write: %v\n%s\n%s", err, b, again)
		}
	})
}

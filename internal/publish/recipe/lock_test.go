package recipe

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

func example() *Lock {
	return &Lock{
		Schema: LockSchema, Recipe: "small", Inputs: "sha256:" + strings.Repeat("ab", 32), Epoch: 1700000000, RuleSet: 1, Architecture: "amd64",
		Repositories: []LockRepository{{"http://deb.debian.org/debian/", "trixie"}},
		Packages: []LockPackage{{
			Name: "tar", Version: "1:1.35+dfsg-3.1~x", Architecture: "amd64", SHA256: strings.Repeat("0f", 32), Size: 814968,
			Filename: "pool/main/t/tar/tar_1.35%2bdfsg-3.1_amd64.deb",
		}},
		Users: []LockUser{{"root", 0}}, Groups: []LockGroup{{"root", 0}},
	}
}

func TestLockRoundTrip(t *testing.T) {
	want := example()
	text, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/recipe.lock")
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != string(golden) {
		t.Errorf("the lock is written as\n%s", text)
	}
	got, err := LoadLock("testdata/recipe.lock")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestLockRefuses(t *testing.T) {
	for name, change := range map[string]func(*Lock){
		"schema":      func(l *Lock) { l.Schema = 2 },
		"epoch":       func(l *Lock) { l.Epoch = -1 },
		"inputs":      func(l *Lock) { l.Inputs = "" },
		"name":        func(l *Lock) { l.Packages[0].Name = "-oOption=1" },
		"version":     func(l *Lock) { l.Packages[0].Version = "1/2" },
		"sha256":      func(l *Lock) { l.Packages[0].SHA256 = "../../etc/passwd" },
		"size":        func(l *Lock) { l.Packages[0].Size = 0 },
		"repository":  func(l *Lock) { l.Packages[0].Repository = 1 },
		"filename":    func(l *Lock) { l.Packages[0].Filename = "/etc/x.deb" },
		"uri":         func(l *Lock) { l.Repositories[0].URI = "javascript:x" },
		"users[0]":    func(l *Lock) { l.Users[0].Name = "a:b" },
		"groups[0]":   func(l *Lock) { l.Groups[0].Name = "" },
		"image":       func(l *Lock) { l.Image = "latest" },
		"packages[0]": func(l *Lock) { l.Packages[0].Architecture = "a b" },
	} {
		l := example()
		change(l)
		if _, err := l.Encode(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("a lock with a bad %s gave %v", name, err)
		}
	}
	text, err := example().Encode()
	if err != nil {
		t.Fatal(err)
	}
	_, err = DecodeLock("recipe.lock", []byte(strings.Replace(string(text), "epoch", "epok", 1)))
	if err == nil || !strings.Contains(err.Error(), "recipe.lock:5: unknown key \"epok\"") {
		t.Errorf("an unknown key gave %v", err)
	}
}

func FuzzRecipe(f *testing.F) {
	f.Add("name = \"a\"\n[[files]]\npath = \"/a\"\ncontent = \"x\"\n[[base.repositories]]\nuri=\"http://x\"\n")
	f.Add("files = [{path = \"/a\", 'mode' = \"9\"}]\n\"na\\u006de\" = 1\n")
	f.Add("[[users]]\n[users.name]\nx = [[1], [{a = 2}]]\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parse("r.toml", []byte(text))
		if (r == nil) == (err == nil) {
			t.Fatalf("recipe %v, error %v", r, err)
		}
		newSource("r.toml", []byte(text)).index()
	})
}

func FuzzLock(f *testing.F) {
	text, err := example().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Fuzz(func(t *testing.T, text string) {
		l, err := DecodeLock("recipe.lock", []byte(text))
		if err != nil {
			return
		}
		if _, err := l.Encode(); err != nil {
			t.Fatalf("read but not written: %v", err)
		}
	})
}

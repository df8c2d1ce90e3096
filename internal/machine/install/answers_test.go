package install

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/program"
)

var rewrite = flag.Bool("rewrite", false, "rewrite docs/install.schema.json")

const full = `schema = 1
then = "reboot"

[disk]
id = "virtio-one"
erase = "virtio-one"

[var]
disk = "virtio-two"
erase = "virtio-two"

[encryption]
passphrase = "correct horse"

[system]
hostname = "box-1.example"
locale = "de_DE.UTF-8"
keyboard = "de"
timezone = "Europe/Berlin"

[user]
name = "ada"
full_name = "Ada Lovelace"
password = "secret words"
ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJq0f3mlEYhYp0RkTX0e6tXPxtwdwSMWQJQ2x5vZ1yR9 ada@box"]

[updates]
repository = "registry.example/acme/server"
channel = "stable"
`

func TestReadAnswers(t *testing.T) {
	a, err := ReadAnswers("answers.toml", append([]byte(full), make([]byte, 1000)...))
	if err != nil {
		t.Fatal(err)
	}
	if a.User.Name != "ada" || a.Disk.Erase != "virtio-one" || a.Var != (VarAnswer{"virtio-two", "virtio-two"}) || a.System.Timezone != "Europe/Berlin" || len(a.User.SSHKeys) != 1 {
		t.Errorf("read %+v", a)
	}
}

// Every word that becomes part of a configuration file is refused where it could
// become more than that.
func TestRefusedAnswers(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"schema = 1", "schema = 2", `field "schema" is 2`},
		{"schema = 1", "", `field "schema" is 0`},
		{"[disk]", "[disks]", "unknown key"},
		{`id = "virtio-one"`, `identity = "x"`, `unknown key "disk.identity"`},
		{`hostname = "box-1.example"`, `hostname = "box_1"`, "system.hostname"},
		{`hostname = "box-1.example"`, `hostname = "box\n127.0.0.1"`, "system.hostname"},
		{`locale = "de_DE.UTF-8"`, `locale = "de_DE.UTF-8\nLC_ALL=C"`, "system.locale"},
		{`keyboard = "de"`, `keyboard = "de; reboot"`, "system.keyboard"},
		{`timezone = "Europe/Berlin"`, `timezone = "../../shadow"`, "system.timezone"},
		{`timezone = "Europe/Berlin"`, `timezone = "/etc/shadow"`, "system.timezone"},
		{`name = "ada"`, `name = "root"`, "root is no name for a user"},
		{`name = "ada"`, `name = "ada:x:0"`, "user.name"},
		{`name = "ada"`, `name = ""`, `field "user.name" is missing`},
		{`full_name = "Ada Lovelace"`, `full_name = "Ada:/root"`, "user.full_name"},
		{`password = "secret words"`, `password = "a\nb"`, "user.password"},
		{`password = "secret words"`, `password_hash = "$1$abc$defghijk"`, "user.password_hash"},
		{`password = "secret words"`, "password = \"a\"\npassword_hash = \"$6$abcdefgh$abcdefgh\"", "both"},
		{`ssh-ed25519 AAAA`, `command=\"sh\" ssh-ed25519 AAAA`, "key 1 is not a line"},
		{`passphrase = "correct horse"`, `passphrase = "a\tb"`, "encryption.passphrase"},
		{`then = "reboot"`, `then = "explode"`, `field "then"`},
		{`id = "virtio-one"`, `id = "virtio one"`, "disk.id"},
		{`disk = "virtio-two"`, `disk = "virtio\ttwo"`, "var.disk"},
		{`disk = "virtio-two"`, `id = "virtio-two"`, `unknown key "var.id"`},
		{`disk = "virtio-two"`, ``, `field "var.disk" is missing`},
		{"[var]", "keep_var = true\n[var]", `both "var.disk" and "disk.keep_var"`},
		{`then = "reboot"`, `then = `, "line 2"},
	} {
		text := strings.Replace(full, c.old, c.new, 1)
		if text == full {
			t.Fatalf("%q is not in the answers", c.old)
		}
		if _, err := ReadAnswers("answers.toml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("with %q: error is %v, want one with %q", c.new, err, c.want)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "horse") {
			t.Errorf("with %q the error tells a secret: %v", c.new, err)
		}
	}
	if _, err := ReadAnswers("answers.toml", bytes.Repeat([]byte("#"), MaxAnswers+1)); err == nil {
		t.Error("a file that is too long is read")
	}
}

// A user without any way to log in would be a machine that nobody gets into.
func TestUserMustGetIn(t *testing.T) {
	a := &Answers{User: User{Name: "ada"}}
	if err := a.Check(); err == nil || !strings.Contains(err.Error(), "could not log in") {
		t.Errorf("error is %v", err)
	}
}

func TestSchemaIsInTheDocs(t *testing.T) {
	const path = "../../../docs/install.schema.json"
	if *rewrite {
		if err := os.WriteFile(path, Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, Schema()) {
		t.Error("docs/install.schema.json is another one: go test -run TestSchema ./internal/machine/install -rewrite")
	}
	if !json.Valid(b) {
		t.Error("the schema is no JSON")
	}
}

// The specification's own vectors, and openssl's word on one of ours.
func TestPasswordHash(t *testing.T) {
	for _, c := range []struct {
		key, salt string
		rounds    int
		want      string
	}{
		{"Hello world!", "saltstringsaltst", 10000, "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v."},
		{"This is just a test", "toolongsaltstrin", 5000, "$6$rounds=5000$toolongsaltstrin$lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0"},
	} {
		if got := sha512Crypt([]byte(c.key), []byte(c.salt), c.rounds); got != c.want {
			t.Errorf("hash of %q is %s, want %s", c.key, got, c.want)
		}
	}
	random := bytes.NewReader([]byte("0123456789abcdef"))
	hash, err := hashPassword("pässword", random)
	if err != nil {
		t.Fatal(err)
	}
	salt := strings.Split(hash, "$")[3]
	out, err := program.Run(context.Background(), program.Command{
		Args: []string{"openssl", "passwd", "-6", "-salt", "rounds=300000$" + salt, "-stdin"}, Stdin: strings.NewReader("pässword\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != hash {
		t.Errorf("openssl has %s, we have %s", got, hash)
	}
	if !hashShape.MatchString(hash) {
		t.Errorf("the answers would not take %q", hash)
	}
}

func FuzzReadAnswers(f *testing.F) {
	f.Add([]byte(full))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ReadAnswers("answers.toml", b)
		if err == nil && strings.ContainsAny(a.System.Hostname+a.System.Locale+a.System.Keyboard+a.User.Name+a.User.FullName, "\n:") {
			t.Errorf("%+v", a)
		}
	})
}

package cli

import (
	"encoding"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/machine/update"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/answers.txt anew")

// TestAnswers compares the fields of every --json answer with the list that
// programs outside were written for. Adding a field is fine; a field that is
// renamed or gone breaks them.
func TestAnswers(t *testing.T) {
	var list strings.Builder
	for _, a := range []struct {
		command string
		answer  any
	}{
		{"build", buildAnswer{}},
		{"channel promote", promoteAnswer{}},
		{"channel withdraw", withdrawAnswer{}},
		{"composefs digest", composefsAnswer{}},
		{"composefs write", composefsAnswer{}},
		{"diff", diffAnswer{}},
		{"disk", diskAnswer{}},
		{"etc diff", etcAnswer{}},
		{"etc reset", etcAnswer{}},
		{"gc", update.GCPlan{}},
		{"health", healthAnswer{}},
		{"history", historyAnswer{}},
		{"inspect", inspectAnswer{}},
		{"inspect --signed", provenAnswer{}},
		{"install", installAnswer{}},
		{"keys init", keysAnswer{}},
		{"keys revoke", rotateAnswer{}},
		{"keys rotate", rotateAnswer{}},
		{"keys show", keysAnswer{}},
		{"keys sign", keysSignAnswer{}},
		{"media drives", drivesAnswer{}},
		{"media restore", mediaRestoreAnswer{}},
		{"media verify", mediaVerifyAnswer{}},
		{"media write", mediaWriteAnswer{}},
		{"pin", pinAnswer{}},
		{"publish", publishAnswer{}},
		{"recipe check", recipeCheck{}},
		{"reset", resetAnswer{}},
		{"rollback", update.RollbackPlan{}},
		{"secureboot allow", secureBootKeys{}},
		{"secureboot enroll", secureBootEnrolled{}},
		{"secureboot init", secureBootKeys{}},
		{"serve", serveAnswer{}},
		{"status", statusAnswer{}},
		{"trust refresh", refreshAnswer{}},
		{"trust show", trustAnswer{}},
		{"update", updateAnswer{}},
		{"verify", verifyAnswer{}},
	} {
		l := lister{t: t, out: &list}
		l.list(a.command+":", reflect.TypeOf(a.answer))
	}
	const golden = "testdata/answers.txt"
	if *rewrite {
		if err := os.WriteFile(golden, []byte(list.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(want), "\n") {
		if line != "" && !strings.Contains("\n"+list.String(), "\n"+line+"\n") {
			t.Errorf("no answer has any more: %s", line)
		}
	}
	for _, line := range strings.Split(list.String(), "\n") {
		if line != "" && !strings.Contains("\n"+string(want), "\n"+line+"\n") {
			t.Errorf("not in %s (go test -run TestAnswers -rewrite): %s", golden, line)
		}
	}
}

// lister lists the fields of a type as encoding/json writes it.
type lister struct {
	t     *testing.T
	out   *strings.Builder
	depth int
}

var spelling = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

func (l lister) list(path string, typ reflect.Type) {
	if l.depth++; l.depth > 10 {
		l.t.Fatalf("%s has no end", path)
	}
	switch {
	case typ.Implements(reflect.TypeFor[json.Marshaler]()), typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		fmt.Fprintf(l.out, "%s %s\n", path, typ.Name())
	case typ.Kind() == reflect.Pointer:
		l.list(path, typ.Elem())
	case typ.Kind() == reflect.Slice:
		l.list(path+"[]", typ.Elem())
	case typ.Kind() == reflect.Map:
		l.list(path+"{}", typ.Elem())
	case typ.Kind() == reflect.Struct:
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case name == "-" || !f.IsExported() && !f.Anonymous:
			case f.Anonymous && name == "":
				l.list(path, f.Type)
			case !spelling.MatchString(name):
				l.t.Errorf("%s: field %s of %s is called %q", path, f.Name, typ, name)
			default:
				l.list(path+" ."+name, f.Type)
			}
		}
	default:
		fmt.Fprintf(l.out, "%s %s\n", path, typ.Kind())
	}
}

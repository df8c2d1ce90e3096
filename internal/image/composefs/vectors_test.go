package composefs

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// vector is one of upstream's dumps with what mkcomposefs makes of it.
type vector struct {
	name, dump, sha256 string
	options            Options
}

func readVectors(t testing.TB) (list []vector) {
	t.Helper()
	sums, err := filepath.Glob("testdata/*.sha256")
	if err != nil || len(sums) < 10 {
		t.Fatalf("testdata has %d vectors: %v", len(sums), err)
	}
	for _, sum := range sums {
		path := strings.TrimSuffix(sum, ".sha256")
		v := vector{name: filepath.Base(path), sha256: strings.TrimSpace(readFile(t, sum)), dump: readFile(t, path)}
		if b, err := os.ReadFile(path + ".version"); err == nil {
			version, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			v.options = Options{MinVersion: version, Exact: true}
		}
		list = append(list, v)
	}
	return list
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if b, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	return string(b)
}

func parse(t testing.TB, dump string) *tree.Tree {
	t.Helper()
	tr, err := ParseDump(strings.NewReader(dump))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func write(t testing.TB, tr *tree.Tree, o Options) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, tr, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// TestVectors: our images are those of mkcomposefs, byte for byte.
func TestVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			image := write(t, parse(t, v.dump), v.options)
			if got := sum(image); got != v.sha256 {
				t.Errorf("the sha256 of the image is %s, mkcomposefs has %s", got, v.sha256)
			}
		})
	}
}

// TestShouldFail: each of upstream's malformed dumps is refused, and the
// sentence says where and why.
func TestShouldFail(t *testing.T) {
	want := map[string]string{
		"big-inline":           `line 2 of the dump, field DIGEST: the field is missing`,
		"dir-hardlink":         `line 2 of the dump, field MODE: a directory cannot be a hard link`,
		"dot-name":             `line 2 of the dump, field PATH: "/.": the file name is "."`,
		"dotdot-name":          `line 2 of the dump, field PATH: "/..": the file name is ".."`,
		"empty-name":           `line 2 of the dump, field PATH: "//": the file name is empty`,
		"empty-xattr-key":      `line 2 of the dump, field XATTRS: an extended attribute has no name`,
		"honggfuzz-long-xattr": `line 1 of the dump, field XATTRS: `,
		"long-xattr-key":       `line 2 of the dump, field XATTRS: the extended attributes take 123219 bytes, at most 65535 are possible`,
		"no-ftype":             `line 2 of the dump, field MODE: "0" has no known file type`,
		"self-hardlink":        `line 2 of the dump, field PAYLOAD: the hard link's target is itself: "/037blockdev"`,
	}
	paths, err := filepath.Glob("testdata/should-fail-*.dump")
	if err != nil || len(paths) != len(want) {
		t.Fatalf("testdata has %d malformed dumps, %d are expected: %v", len(paths), len(want), err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "should-fail-"), ".dump")
		_, err := ParseDump(strings.NewReader(readFile(t, path)))
		if err == nil {
			t.Errorf("%s is accepted", name)
		} else if !strings.HasPrefix(err.Error(), want[name]) {
			t.Errorf("%s is refused with\n%.200s\nwant\n%s", name, err, want[name])
		}
	}
}

func sumVerity(b []byte) verity.Digest { return verity.SumBytes(b) }

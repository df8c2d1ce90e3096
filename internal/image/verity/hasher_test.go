package verity

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// sizes are around every boundary of a tree of up to three levels.
var sizes = []int{0, 1, 31, 32, 33, 4095, 4096, 4097, 8192, 8193, 127 * 4096, 128*4096 - 1, 128 * 4096,
	128*4096 + 1, 129 * 4096, 256 * 4096, 128*128*4096 - 1, 128 * 128 * 4096, 128*128*4096 + 1}

func content(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// TestAgainstFsverity compares with the kernel developers' own program.
func TestAgainstFsverity(t *testing.T) {
	program, err := exec.LookPath("fsverity")
	if err != nil {
		t.Fatalf("this test needs Debian's package fsverity: %v", err)
	}
	for _, n := range sizes {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, content(n), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(program, "digest", "--compact", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		want := strings.TrimSpace(string(out))
		if got := SumBytes(content(n)).String(); got != want {
			t.Errorf("SumBytes of %d bytes is %s, fsverity says %s", n, got, want)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got, size, err := SumReader(file)
		file.Close()
		if err != nil || size != int64(n) || got.String() != want {
			t.Errorf("SumReader of %d bytes is %s, %d, %v; fsverity says %s", n, got, size, err, want)
		}
	}
}

// TestPieces: how the bytes are cut into writes does not matter, and Reset forgets.
func TestPieces(t *testing.T) {
	b := content(300*4096 + 77)
	want := SumBytes(b)
	rng := rand.New(rand.NewPCG(1, 2))
	h := NewHasher()
	for range 20 {
		for rest := b; len(rest) > 0; {
			n := min(1+rng.IntN(3*blockSize), len(rest))
			h.Write(rest[:n])
			rest = rest[n:]
		}
		if got := h.Sum(); got != want {
			t.Fatalf("the digest depends on how the writes are cut: %s, want %s", got, want)
		}
		h.Reset()
	}
}

// TestSumReaderPassesErrors: neither an error nor a cut compressed stream,
// which reports io.ErrUnexpectedEOF, counts as the end of the file.
func TestSumReaderPassesErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, want := range []error{broken, io.ErrUnexpectedEOF} {
		r := io.MultiReader(bytes.NewReader(content(5000)), iotest.ErrReader(want))
		if _, _, err := SumReader(r); !errors.Is(err, want) {
			t.Errorf("SumReader of a reader that fails with %v returns error %v", want, err)
		}
	}
	if d, n, err := SumReader(iotest.DataErrReader(bytes.NewReader(content(5000)))); err != nil || n != 5000 || d != SumBytes(content(5000)) {
		t.Errorf("a reader that returns its last bytes together with EOF: %s, %d, %v", d, n, err)
	}
}

func TestWriteAllocatesNothing(t *testing.T) {
	b, h := content(200*4096), NewHasher()
	if n := testing.AllocsPerRun(5, func() { h.Write(b); h.Sum(); h.Reset() }); n > 0 {
		t.Errorf("hashing 200 blocks allocates %v times", n)
	}
}

func TestParse(t *testing.T) {
	d := SumBytes([]byte("x"))
	if got, err := Parse(d.String()); err != nil || got != d {
		t.Errorf("Parse(String()) = %s, %v", got, err)
	}
	for _, s := range []string{"", "ab", strings.Repeat("g", 64), strings.Repeat("A", 64), strings.Repeat("a", 66)} {
		if _, err := Parse(s); err == nil {
			t.Errorf("Parse accepts %q", s)
		}
	}
}

func BenchmarkHasher(b *testing.B) {
	data, h := content(1<<20), NewHasher()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for range b.N {
		h.Write(data)
	}
}

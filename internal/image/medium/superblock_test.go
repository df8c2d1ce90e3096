package medium

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
	"github.com/ashlar-os/ashlar/internal/program"
)

const treeID = "aaaaaaaa-1111-8222-9333-444444444444"

// payload is a file of so many blocks that claims to be an EROFS, with the tree
// that veritysetup makes behind it.
func payload(t testing.TB, blocks int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "payload")
	b := make([]byte, blocks*BlockSize)
	copy(b[erofsSuper:], []byte{0xe2, 0xe1, 0xf5, 0xe0})
	b[erofsSuper+erofsBlockBits] = 12
	b[erofsSuper+erofsBlocks], b[erofsSuper+erofsBlocks+1] = byte(blocks), byte(blocks>>8)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := program.Run(t.Context(), program.Command{Args: []string{"veritysetup", "format", "--salt=-", "--uuid=" + treeID,
		"--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096", "--data-blocks=" + strconv.Itoa(blocks), "--hash-offset=" + strconv.Itoa(len(b)), path, path}}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What veritysetup writes is read as it was told, and ends where its tree does.
func TestReadPayload(t *testing.T) {
	for _, blocks := range []int{1, 2, 128, 129, 1000, 17000} {
		b := payload(t, blocks)
		s, err := ReadPayload(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(blocks, err)
		}
		want := Superblock{UUID: gpt.MustParse(treeID), DataBlocks: int64(blocks), Offset: int64(blocks) * BlockSize}
		if s != want {
			t.Errorf("%d blocks: read %+v, want %+v", blocks, s, want)
		}
		// Of one block there is no tree, and nothing behind the superblock either.
		if blocks > 1 && s.End() != int64(len(b)) {
			t.Errorf("%d blocks: the tree ends at %d, and veritysetup's at %d", blocks, s.End(), len(b))
		}
	}
}

func TestReadPayloadRefuses(t *testing.T) {
	good := payload(t, 1000)
	at := 1000 * BlockSize
	for _, c := range []struct {
		name, want string
		offset     int
		value      byte
	}{
		{"no EROFS", "no EROFS", erofsSuper, 0},
		{"other blocks", "2^9", erofsSuper + erofsBlockBits, 9},
		{"another length", "verity\\x00", erofsSuper + erofsBlocks, 1},
		{"no tree", "verity\\x00", at, 'x'},
		{"version", `"version" is 2`, at + sbVersion, 2},
		{"hash type", `"hash type" is 0`, at + sbHashType, 0},
		{"algorithm", `"algorithm"`, at + sbAlgorithm + 3, '1'},
		{"algorithm goes on", `"algorithm"`, at + sbAlgorithm + 20, '1'},
		{"data block size", `"data block size"`, at + sbDataBlockSize + 1, 2},
		{"hash block size", `"hash block size"`, at + sbHashBlockSize + 1, 2},
		{"no blocks at all", "for 232 blocks", at + sbDataBlocks + 1, 0},
		{"too many blocks", `"data blocks"`, at + sbDataBlocks + 7, 0x80},
		{"salt", `"salt size"`, at + sbSaltSize, 1},
		{"salt without a size", "nothing is expected", at + sbSaltSize + 9, 1},
	} {
		b := bytes.Clone(good)
		b[c.offset] = c.value
		if s, err := ReadPayload(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: read %+v, error %v, want one with %q", c.name, s, err, c.want)
		}
	}
	if _, err := ReadPayload(bytes.NewReader(good), int64(len(good))-1); err == nil || !strings.Contains(err.Error(), "hash tree ends") {
		t.Errorf("a partition that is too short: %v", err)
	}
	if _, err := ReadPayload(bytes.NewReader(good[:1100]), int64(len(good))); err == nil {
		t.Error("a device that ends early is read")
	}
}

func FuzzReadPayload(f *testing.F) {
	b := make([]byte, 3*BlockSize)
	copy(b, payload(f, 1))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadPayload(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if s.DataSize() != s.Offset || s.End() > int64(len(b)) || s.TreeOffset() > s.End() {
			t.Errorf("%+v in %d bytes", s, len(b))
		}
	})
}

package publish

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"

	"github.com/ashlar-os/ashlar/internal/image/release"
	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// openNode opens the content of a regular file of a composed tree.
func openNode(n *tree.Node) (io.ReadCloser, error) {
	if n.Source == "" {
		return io.NopCloser(bytes.NewReader(n.Inline)), nil
	}
	return os.Open(n.Source)
}

// describe says how the release document names a file of these bytes.
func describe(data []byte) release.File {
	sum := sha256.Sum256(data)
	return release.File{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data))}
}

// describeFile does so for the file at path.
func describeFile(path string) (release.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return release.File{}, err
	}
	defer f.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, f)
	return release.File{SHA256: hex.EncodeToString(hash.Sum(nil)), Size: size}, err
}

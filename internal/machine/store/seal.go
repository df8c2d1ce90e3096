package store

import (
	"io"
	"os"

	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// Sealer makes files immutable and says what they hold.
type Sealer interface {
	// Seal makes the file, opened read-only, immutable. Sealing twice is no error.
	Seal(f *os.File) error
	// Measure returns the digest of a sealed file, without reading it where
	// that can be helped, and verity.ErrNotSealed for one without a seal.
	Measure(f *os.File) (verity.Digest, error)
}

// Kernel seals with fs-verity: from then on the kernel refuses every write
// and checks every page that is read.
var Kernel Sealer = kernelSealer{}

// Software seals nothing and measures by reading: for file systems without
// fs-verity, which is where disk images are put together and most tests run.
var Software Sealer = softwareSealer{}

type kernelSealer struct{}

func (kernelSealer) Seal(f *os.File) error                     { return verity.Enable(f) }
func (kernelSealer) Measure(f *os.File) (verity.Digest, error) { return verity.Measure(f) }

type softwareSealer struct{}

func (softwareSealer) Seal(*os.File) error { return nil }

func (softwareSealer) Measure(f *os.File) (verity.Digest, error) {
	st, err := f.Stat()
	if err != nil {
		return verity.Digest{}, err
	}
	// A section reader leaves the file's offset where the caller has it.
	d, _, err := verity.SumReader(io.NewSectionReader(f, 0, st.Size()))
	return d, err
}

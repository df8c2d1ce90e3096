package medium

import (
	"fmt"

	"github.com/ashlar-os/ashlar/internal/image/gpt"
)

// BlockSize is what everything on a medium is aligned to, in bytes: extents of the
// map, partitions, blocks of the payload and of its hash tree.
const BlockSize = 4096

// SectorSize is the unit of a medium's partition table, in bytes, also on a CD,
// whose own sectors have 2048.
const SectorSize = 512

// Types of a medium's own partitions. The first is the ESP's, gpt.TypeESP.
var (
	TypePayload = gpt.MustParse("22d38b26-8aae-47ca-b268-f25471764d86")
	TypePapers  = gpt.MustParse("df99e029-432e-4155-9546-102ddf38ee48")
	TypeAnswers = gpt.MustParse("3cfcf8c6-3cea-4403-a8e9-d0c447b65f00")
)

// Labels of a medium's partitions, in their order.
const (
	LabelESP     = "ashlar-media-esp"
	LabelPayload = "ashlar-payload"
	LabelPapers  = "ashlar-papers"
	LabelAnswers = "ashlar-answers"
)

// Sizes of the open regions, in bytes.
const (
	PapersSize  = 4 << 20
	AnswersSize = 256 << 10
)

// Paths in the payload. Below Store is what a machine's store has, objects/ab/cdef…
// and images/DIGEST, and beside it the two programs that an installation puts on the ESP.
const (
	Store  = "/ashlar"
	UKI    = Store + "/boot.efi"   // the installed system's boot file, as the release names it
	Loader = Store + "/loader.efi" // systemd-boot
)

// Argument is the kernel's that names the payload's root hash.
const Argument = "ashlar.medium"

// BootFile is the name of a medium's boot file below EFI/Linux on its ESP; image
// is the first digits of the image's digest. It counts no tries: there is nothing
// on a medium to go back to.
func BootFile(version, image string) string {
	return fmt.Sprintf("ashlar-media_%s_%.12s.efi", version, image)
}

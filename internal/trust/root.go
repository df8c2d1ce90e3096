package trust

import (
	"errors"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// CheckRoot says what is wrong with a file that is to be the root of an image's
// trust: no root of a repository of ours, or not signed by the threshold of its
// own holders. That it has expired is nothing wrong: machines go on from it.
func CheckRoot(data []byte) error {
	if len(data) > maxRoot {
		return tooLong(FileName(RoleRoot, 1), maxRoot)
	}
	root, err := decodeRoot(data)
	if err != nil {
		return err
	}
	if err := root.VerifyDelegate(RoleRoot, root); err != nil {
		if errors.Is(err, &metadata.ErrUnsignedMetadata{}) {
			return untrusted("this root is not signed by enough of its holders")
		}
		return untrusted("this root is malformed: %v", err)
	}
	return nil
}

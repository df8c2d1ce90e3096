package etc

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxMerge is the size of the largest file that is merged by lines, bytes.
const maxMerge = 1 << 20

// mergeContent merges three regular files of which all differ; b may be nil.
// conflict is empty, or a sentence. content is nil where mine stays as it is;
// an account file can be merged and still hold a conflict of one line.
func mergeContent(rel string, b, u, t *node) (content []byte, conflict string, err error) {
	if u.typ != unix.S_IFREG {
		return nil, fmt.Sprintf("another %s here than in the new image; the one here stays", u.typeName()), nil
	}
	const gaveUp = "changed here and by the new image; the one here stays"
	var files [3][]byte
	for i, n := range []*node{b, u, t} {
		if n == nil {
			continue
		}
		if n.size > maxMerge {
			return nil, gaveUp, nil
		}
		if files[i], err = readSmall(n.path); err != nil {
			return nil, "", err
		}
		if bytes.IndexByte(files[i], 0) >= 0 {
			return nil, gaveUp, nil
		}
	}
	base, mine, theirs := files[0], files[1], files[2]
	if f, ok := accountFiles[rel]; ok {
		merged, conflicts := f.merge(string(base), string(mine), string(theirs))
		return []byte(merged), strings.Join(conflicts, "; "), nil
	}
	if b == nil {
		return nil, "made here and by the new image; the one here stays", nil
	}
	merged, ok := merge3(lines(base), lines(mine), lines(theirs))
	if !ok {
		return nil, "the same lines changed here and by the new image; the one here stays", nil
	}
	return []byte(strings.Join(merged, "")), "", nil
}

// holds reports whether the file n has exactly this content.
func holds(n *node, content []byte) (bool, error) {
	if n.size != int64(len(content)) {
		return false, nil
	}
	b, err := readSmall(n.path)
	return bytes.Equal(b, content), err
}

func readSmall(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMerge+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxMerge {
		return nil, fmt.Errorf("%q grew while it was read", path)
	}
	return b, nil
}

// lines splits after each newline; joined they are b again.
func lines(b []byte) []string {
	list := strings.SplitAfter(string(b), "\n")
	if list[len(list)-1] == "" {
		list = list[:len(list)-1]
	}
	return list
}

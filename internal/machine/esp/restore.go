package esp

import (
	"fmt"
	"io"
	"os"
)

// Restore writes the boot file of an entry again, size bytes from r, under the
// very name that e has: in place of one that is damaged, or where there is none
// any more.
//
// It goes as Commit does. Only the rename may be over a file, and that file is one
// that must not boot; cut anywhere, the name leads to what it led to, to nothing, or
// to the whole.
func (p *ESP) Restore(e Entry, r io.Reader, size int64) error {
	if own, ok := parseName(e.File); !ok || own.Name != e.Name {
		return fmt.Errorf("restoring boot file %q: it is not one of Ashlar's", e.File)
	}
	if err := p.restore(e, r, size); err != nil {
		return fmt.Errorf("restoring boot file %q: %w", e.File, err)
	}
	return nil
}

func (p *ESP) restore(e Entry, r io.Reader, size int64) error {
	if _, err := p.sole(e.Name, e.File); err != nil {
		return err
	}
	if err := p.remove(e.Name + partial); err != nil {
		return err
	}
	if err := p.CheckSpace(size); err != nil {
		return err
	}
	tmp := p.file(e.Name + partial)
	if err := writeExactly(tmp, r, size); err != nil {
		os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, p.file(e.File)); err != nil {
		os.Remove(tmp)
		return err
	}
	return p.sync()
}

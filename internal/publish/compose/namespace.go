package compose

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/ashlar-os/ashlar/internal/program"
)

// inNamespace puts args behind unshare(1): a mount and process namespace, no
// network, and for callers who are not root a user namespace with their
// subordinate ids, in which they are root. Root of that namespace owns what
// the caller owns, so no directory has to be opened to the world.
func inNamespace(args ...string) []string {
	ns := []string{"unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if os.Geteuid() != 0 {
		ns = append(ns, "--user", "--map-root-user", "--map-auto")
	}
	return append(append(ns, "--"), args...)
}

// removeScratch removes the scratch directory. What an interrupted program
// left there may belong to subordinate ids, which only the namespace can remove.
func (b *builder) removeScratch() error {
	if os.RemoveAll(b.scratch) == nil {
		return nil
	}
	// Not the caller's context: it may be the one that was interrupted.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := program.Run(ctx, program.Command{Args: inNamespace("rm", "-rf", "--one-file-system", "--", b.scratch)}); err != nil {
		return fmt.Errorf("removing %q: %w", b.scratch, err)
	}
	return nil
}

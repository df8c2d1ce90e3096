package compose

import "os"

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

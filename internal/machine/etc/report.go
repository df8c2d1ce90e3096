package etc

// Schema is the version of the report's JSON form.
const Schema = 1

// NewSuffix is added to the name of a file that a conflict left beside the machine's.
const NewSuffix = ".ashlar-new"

// Report is the outcome of a merge: one item per path that the machine had
// changed, sorted by path. What only the image changed is not listed.
type Report struct {
	Schema int    `json:"schema"`
	Items  []Item `json:"items"`
}

// Item is what became of one changed path.
type Item struct {
	Path   string `json:"path"` // absolute, "/etc/…"
	Result Result `json:"result"`
	Detail string `json:"detail,omitempty"` // a sentence for conflicts and merges
	New    string `json:"new,omitempty"`    // where the image's version was left, "/etc/….ashlar-new"
}

// Result says what the merge did with a changed path.
type Result string

// The results.
const (
	Kept     Result = "kept"     // the machine's version stays; the image did not change it
	Deleted  Result = "deleted"  // the machine had removed it, and it stays removed
	Merged   Result = "merged"   // both changed it, and both changes are in
	Dropped  Result = "dropped"  // the new image says the same now, so the change is none any more
	Conflict Result = "conflict" // both changed it; the machine's version stays
)

// Conflicts returns the items that a person should look at.
func (r *Report) Conflicts() []Item {
	var list []Item
	for _, it := range r.Items {
		if it.Result == Conflict {
			list = append(list, it)
		}
	}
	return list
}

// Change is one difference between an image's /etc and a machine's.
type Change struct {
	Path string `json:"path"` // absolute, "/etc/…"
	Kind Kind   `json:"kind"`
	Type string `json:"type"`           // "file", "directory", "symlink", … ; as it is now, or was when removed
	What string `json:"what,omitempty"` // of a changed path: "content", "metadata", "content and metadata" or "type"
}

// Kind is the kind of a change.
type Kind string

// The kinds.
const (
	Added   Kind = "added"
	Changed Kind = "changed"
	Removed Kind = "removed"
)

// MergeOptions names the four directories of a merge.
type MergeOptions struct {
	BaseDir   string // old image's /usr/etc
	MineUpper string // old deployment's overlay upper directory
	TheirsDir string // new image's /usr/etc
	OutUpper  string // to be filled; absent or empty. Not used by Preview
}

// ResetOptions names the directories of a running machine.
type ResetOptions struct {
	Lower  string // the image's /usr/etc
	Upper  string // the deployment's overlay upper directory, only read
	Merged string // /etc itself: the only one written
}

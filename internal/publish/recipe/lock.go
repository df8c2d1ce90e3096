package recipe

// LockSchema is the version of recipe.lock that this package reads and writes.
const LockSchema = 1

// Lock is what a build used, exactly.
type Lock struct {
	Schema       int              `toml:"schema"`
	Recipe       string           `toml:"recipe"`   // name of the recipe
	Inputs       string           `toml:"inputs"`   // sha256 of what was resolved, see Recipe.InputsDigest
	Epoch        int64            `toml:"epoch"`    // SOURCE_DATE_EPOCH: mtime of every file
	RuleSet      int              `toml:"rule_set"` // version of the tree rules
	Architecture string           `toml:"architecture,omitempty"`
	Image        string           `toml:"image,omitempty"` // base oci: digest of the image's manifest
	Repositories []LockRepository `toml:"repositories,omitempty"`
	Packages     []LockPackage    `toml:"packages,omitempty"`
	Users        []LockUser       `toml:"users,omitempty"`
	Groups       []LockGroup      `toml:"groups,omitempty"`
}

// LockRepository is where packages were found; LockPackage refers to it by number.
type LockRepository struct {
	URI   string `toml:"uri"`
	Suite string `toml:"suite"`
}

// LockPackage is one package file.
type LockPackage struct {
	Name         string `toml:"name"`
	Version      string `toml:"version"`
	Architecture string `toml:"architecture"`
	SHA256       string `toml:"sha256"`
	Size         int64  `toml:"size"`
	Repository   int    `toml:"repository"` // index into Lock.Repositories; -1: made by ashlar itself
	Filename     string `toml:"filename"`   // relative to the repository's URI
}

// LockUser is the id of one user of the image.
type LockUser struct {
	Name string `toml:"name"`
	UID  uint32 `toml:"uid"`
}

// LockGroup is the id of one group of the image.
type LockGroup struct {
	Name string `toml:"name"`
	GID  uint32 `toml:"gid"`
}

package registry

import "regexp"

// Names as the OCI distribution specification has them.
var (
	tagPattern        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
)

func isTag(s string) bool        { return tagPattern.MatchString(s) }
func isRepository(s string) bool { return len(s) <= 255 && repositoryPattern.MatchString(s) }

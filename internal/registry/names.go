package registry

import "regexp"

// Names as the OCI distribution specification has them.
var (
	tagPattern        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
)

func isTag(s string) bool { return tagPattern.MatchString(s) }

// isVersionTag says whether a tag is that of a version, which begins with a
// digit; the name of a channel and a digest do not.
func isVersionTag(s string) bool { return s != "" && '0' <= s[0] && s[0] <= '9' }

func isRepository(s string) bool { return len(s) <= 255 && repositoryPattern.MatchString(s) }

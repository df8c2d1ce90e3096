package trust

// Limits on what comes from outside. Each is far above what a repository of
// this kind needs, and far below what could trouble a machine.
const (
	maxRoot      = 512 << 10
	maxTimestamp = 64 << 10
	maxSnapshot  = 64 << 10
	maxTargets   = 5 << 20 // of targets.json and of channels.json: some 15 000 releases

	maxRootSteps = 256 // roots that one refresh follows

	// maxVersion is the highest number of a metadata file. Who steals a key can
	// sign the highest there is, and then nothing newer can follow until the
	// keys are replaced: see Editor.number.
	maxVersion = 1<<31 - 1

	maxKeys   = 64 // of one role
	maxDepth  = 16 // nested JSON objects and arrays
	maxReason = 500
)

// limit returns the most bytes a metadata file of the role may have.
func limit(role string) int64 {
	switch role {
	case RoleRoot:
		return maxRoot
	case RoleTimestamp:
		return maxTimestamp
	case RoleSnapshot:
		return maxSnapshot
	}
	return maxTargets
}

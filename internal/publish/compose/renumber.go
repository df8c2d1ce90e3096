package compose

import (
	"encoding/binary"
	"fmt"
	"sort"
	"strconv"

	"github.com/ashlar-os/ashlar/internal/image/tree"
)

// Ids that packages get for system accounts, adduser.conf(5) and
// systemd-sysusers: counted down from the top.
const (
	systemIDMin = 100
	systemIDMax = 999
)

// renumber gives every name in want its id, moves accounts that are in the
// way to free ids, and returns the ids that changed.
//
// Ids are changed after packages are installed, not seeded before it, because
// a package's script that finds its user there does not make the user's home
// either, and a second build would differ from the first.
func renumber(t *table, want map[string]uint32) (map[uint32]uint32, error) {
	taken := make(map[uint32]string)
	for name, id := range want {
		if other, dup := taken[id]; dup {
			return nil, fmt.Errorf("%q and %q are both to have id %d", min(name, other), max(name, other), id)
		}
		taken[id] = name
	}
	rows := append([][]string(nil), t.rows...)
	sort.SliceStable(rows, func(i, j int) bool { return rows[i][0] < rows[j][0] })
	changed := make(map[uint32]uint32)
	move := func(row []string, id uint32) {
		if old := idOf(row); old != id {
			if _, done := changed[old]; !done {
				changed[old] = id
			}
			row[2] = strconv.FormatUint(uint64(id), 10)
		}
	}
	inUse := make(map[uint32]bool)
	for _, row := range rows {
		if _, fixed := want[row[0]]; !fixed {
			inUse[idOf(row)] = true
		}
	}
	for _, row := range rows {
		id, fixed := want[row[0]]
		if fixed {
			move(row, id)
			continue
		}
		if _, conflict := taken[idOf(row)]; !conflict {
			continue
		}
		free, ok := freeID(taken, inUse)
		if !ok {
			return nil, fmt.Errorf("no free id for %q", row[0])
		}
		inUse[free] = true
		move(row, free)
	}
	return changed, nil
}

func freeID(taken map[uint32]string, inUse map[uint32]bool) (uint32, bool) {
	for id := uint32(systemIDMax); id >= systemIDMin; id-- {
		if _, used := taken[id]; !used && !inUse[id] {
			return id, true
		}
	}
	return 0, false
}

func mapID(id uint32, changed map[uint32]uint32) uint32 {
	if to, ok := changed[id]; ok {
		return to
	}
	return id
}

func mapText(id string, changed map[uint32]uint32) string {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return id
	}
	return strconv.FormatUint(uint64(mapID(uint32(n), changed)), 10)
}

// chown gives every inode's owners their new ids.
func chown(t *tree.Tree, uids, gids map[uint32]uint32) {
	if len(uids) == 0 && len(gids) == 0 {
		return
	}
	_ = t.Walk(func(_ string, n *tree.Node) error {
		if n.HardLink != nil {
			return nil
		}
		n.UID, n.GID = mapID(n.UID, uids), mapID(n.GID, gids)
		for i, x := range n.Xattrs {
			if x.Key == "system.posix_acl_access" || x.Key == "system.posix_acl_default" {
				n.Xattrs[i].Value = mapACL(x.Value, uids, gids)
			}
		}
		return nil
	})
}

// mapACL renumbers a POSIX ACL as the kernel stores it in an extended
// attribute (include/uapi/linux/posix_acl_xattr.h): a version, then entries
// of tag, permissions and id.
func mapACL(acl []byte, uids, gids map[uint32]uint32) []byte {
	const header, entry, tagUser, tagGroup = 4, 8, 0x02, 0x08
	out := append([]byte(nil), acl...)
	for at := header; at+entry <= len(out); at += entry {
		id := out[at+4:]
		switch binary.LittleEndian.Uint16(out[at:]) {
		case tagUser:
			binary.LittleEndian.PutUint32(id, mapID(binary.LittleEndian.Uint32(id), uids))
		case tagGroup:
			binary.LittleEndian.PutUint32(id, mapID(binary.LittleEndian.Uint32(id), gids))
		}
	}
	return out
}

package crashtest

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// changing are the calls that may change or flush a file system. Those that
// the recorder has no reading of end the test when they are about to change
// something below root, so that a new one is not overlooked.
var changing = map[uint64]bool{
	unix.SYS_OPENAT: true, unix.SYS_WRITE: true, unix.SYS_PWRITE64: true, unix.SYS_FTRUNCATE: true,
	unix.SYS_RENAMEAT: true, unix.SYS_RENAMEAT2: true, unix.SYS_UNLINKAT: true, unix.SYS_MKDIRAT: true,
	unix.SYS_FSYNC: true, unix.SYS_FDATASYNC: true, unix.SYS_SYNCFS: true, unix.SYS_FCHMOD: true, unix.SYS_FCHMODAT: true,

	unix.SYS_COPY_FILE_RANGE: true, unix.SYS_FSETXATTR: true,

	unix.SYS_WRITEV: true, unix.SYS_PWRITEV: true, unix.SYS_SENDFILE: true, unix.SYS_SPLICE: true,
	unix.SYS_FALLOCATE: true, unix.SYS_LINKAT: true, unix.SYS_SYMLINKAT: true, unix.SYS_MKNODAT: true, unix.SYS_OPENAT2: true,
	unix.SYS_TRUNCATE: true, unix.SYS_SYNC_FILE_RANGE: true,
}

// pending is a call between its entry and its end: what it will have done if
// it succeeds. Its result is the bytes that were written, where that matters.
type pending struct {
	op    Op
	block *BlockOp // on the disk itself, instead
	data  []byte
}

// begin reads a call that is about to be made; nil means that it changes nothing
// below root.
func (r *recorder) begin(tid int, c *call) *pending {
	if p := r.beginBlock(tid, c); p != nil {
		return p
	}
	switch a := c.args; c.number {
	case unix.SYS_OPENAT:
		return r.beginOpen(tid, a)
	case unix.SYS_WRITE, unix.SYS_PWRITE64:
		node, ok := r.file(tid, a[0])
		if !ok {
			return nil
		}
		offset := int64(a[3])
		if c.number == unix.SYS_WRITE {
			offset = r.position(tid, a[0], node)
		}
		return &pending{op: Op{Kind: Write, Path: r.now.pathOf(node), Node: node, Offset: offset}, data: r.memory(tid, a[1], a[2])}
	case unix.SYS_COPY_FILE_RANGE:
		if node, ok := r.file(tid, a[2]); ok {
			if a[1] != 0 || a[3] != 0 {
				r.t.Fatal("copy_file_range with offsets is not known to the recorder")
			}
			op := Op{Kind: Write, Path: r.now.pathOf(node), Node: node, Offset: r.position(tid, a[2], node)}
			return &pending{op: op, data: r.ahead(tid, a[0], a[4])}
		}
	case unix.SYS_FSETXATTR:
		if node, ok := r.file(tid, a[0]); ok && r.text(tid, a[1]) == SealAttribute {
			return &pending{op: Op{Kind: Seal, Path: r.now.pathOf(node), Node: node}}
		}
	case unix.SYS_FTRUNCATE:
		if node, ok := r.file(tid, a[0]); ok {
			return &pending{op: Op{Kind: Truncate, Path: r.now.pathOf(node), Node: node, Offset: int64(a[1])}}
		}
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		if node, ok := r.file(tid, a[0]); ok {
			return &pending{op: Op{Kind: Fsync, Path: r.now.pathOf(node), Node: node}}
		}
	case unix.SYS_SYNCFS:
		if path, ok := r.opened(tid, a[0]); ok {
			return &pending{op: Op{Kind: Syncfs, Path: path}}
		}
	case unix.SYS_MKDIRAT:
		if path, ok := r.path(tid, a[0], a[1]); ok {
			return &pending{op: r.now.create(path, true)}
		}
	case unix.SYS_SYMLINKAT:
		if path, ok := r.path(tid, a[1], a[2]); ok {
			op := r.now.create(path, false)
			r.now.nodes[op.Node].Target = r.text(tid, a[0])
			return &pending{op: op}
		}
	case unix.SYS_UNLINKAT:
		if path, ok := r.path(tid, a[0], a[1]); ok {
			return &pending{op: r.now.unlink(path)}
		}
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		from, okFrom := r.path(tid, a[0], a[1])
		to, okTo := r.path(tid, a[2], a[3])
		if okFrom != okTo {
			r.t.Fatalf("%q is renamed to %q, and only one is on the machine's disk", from, to)
		}
		if okFrom && r.now.lookup(from) != 0 {
			return &pending{op: r.now.rename(from, to)}
		}
	case unix.SYS_FCHMOD, unix.SYS_FCHMODAT:
		return nil // a mode is no more durable than the inode, and no test depends on one
	case unix.SYS_LINKAT, unix.SYS_MKNODAT, unix.SYS_TRUNCATE, unix.SYS_OPENAT2:
		r.unknown(tid, c)
	default:
		for _, fd := range []uint64{a[0], a[1], a[2]} {
			if path, ok := r.opened(tid, fd); ok {
				r.t.Fatalf("system call %d on %q is not known to the recorder", c.number, path)
			}
		}
	}
	return nil
}

// unknown ends the test at a call that names something below root and that nothing
// here can play.
func (r *recorder) unknown(tid int, c *call) {
	dir, name := c.args[0], c.args[1]
	switch c.number {
	case unix.SYS_LINKAT:
		dir, name = c.args[2], c.args[3]
	case unix.SYS_TRUNCATE:
		cwd := unix.AT_FDCWD
		dir, name = uint64(cwd), c.args[0]
	}
	if path, ok := r.path(tid, dir, name); ok {
		r.t.Fatalf("system call %d on %q is not known to the recorder", c.number, path)
	}
}

func (r *recorder) beginOpen(tid int, a [6]uint64) *pending {
	if a[2]&(unix.O_CREAT|unix.O_TRUNC) == 0 {
		return nil
	}
	path, ok := r.path(tid, a[0], a[1])
	if !ok {
		return nil
	}
	node := r.now.lookup(path)
	switch {
	case node == 0 && a[2]&unix.O_CREAT != 0:
		return &pending{op: r.now.create(path, false)}
	case node != 0 && a[2]&unix.O_TRUNC != 0 && len(r.now.nodes[node].Data) > 0:
		return &pending{op: Op{Kind: Truncate, Path: path, Node: node}}
	}
	return nil
}

// finish notes a call that has succeeded.
func (r *recorder) finish(c *call, result int64) {
	if op := c.op.block; op != nil {
		if c.op.data != nil {
			op.Data = c.op.data[:result]
		}
		r.disk.add(*op)
		return
	}
	op := c.op.op
	if op.Kind == Write {
		op.Data = c.op.data[:result]
	}
	r.now.apply(op)
	r.log.Ops = append(r.log.Ops, op)
}

// file is the node behind a descriptor. One without a name any more is of no
// consequence: a cut ends it.
func (r *recorder) file(tid int, fd uint64) (int, bool) {
	path, ok := r.opened(tid, fd)
	if !ok || strings.HasSuffix(path, " (deleted)") {
		return 0, false
	}
	node := r.now.lookup(path)
	if node == 0 {
		r.t.Fatalf("%q is open, and was never created", path)
	}
	return node, true
}

// position is where the next write through a descriptor goes.
func (r *recorder) position(tid int, fd uint64, node int) int64 {
	name := fmt.Sprintf("/proc/%d/fdinfo/%d", tid, int32(fd))
	b, err := os.ReadFile(name)
	must(r.t, err)
	at, appends := int64(-1), false
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch value = strings.TrimSpace(value); key {
		case "pos":
			at, err = strconv.ParseInt(value, 10, 64)
			must(r.t, err)
		case "flags":
			flags, err := strconv.ParseInt(value, 8, 64)
			must(r.t, err)
			appends = flags&unix.O_APPEND != 0
		}
	}
	if appends {
		return int64(len(r.now.nodes[node].Data))
	}
	return at
}

// ahead is what a process would read next through a descriptor, up to max bytes.
func (r *recorder) ahead(tid int, fd, max uint64) []byte {
	f, err := os.Open(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(fd)))
	must(r.t, err)
	defer f.Close()
	st, err := f.Stat()
	must(r.t, err)
	at := r.position(tid, fd, 0)
	b, err := io.ReadAll(io.NewSectionReader(f, at, min(st.Size()-at, int64(min(max, 1<<30)))))
	must(r.t, err)
	return b
}

func decimal(n int) string { return strconv.Itoa(n) }

package diskimage

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/ashlar-os/ashlar/internal/program"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// features of the root file system, all of them named, so that the building
// machine's mke2fs.conf and e2fsprogs version have no say. Without
// orphan_file and metadata_csum_seed Debian 12's e2fsck still knows it.
const features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg," +
	"sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum,verity"

// writeRoot makes and fills the file system of partition 2.
//
// mke2fs -d would fill it too, but takes owners and times from a staging
// directory, which a normal user cannot set, and before 1.47.1 the order of
// files from readdir. debugfs takes commands in an order that is ours, makes
// root the owner, and E2FSPROGS_FAKE_TIME the time of everything.
func (j *job) writeRoot(ctx context.Context) error {
	l := j.layout
	_, err := program.Run(ctx, program.Command{Env: j.env(), Args: []string{
		"mke2fs", "-q", "-F", "-b", strconv.Itoa(blockSize), "-I", "256", "-N", strconv.FormatInt(l.inodes, 10),
		"-m", "1", "-J", "size=" + strconv.FormatInt(journal/mib, 10), "-O", features,
		"-L", l.root.Name, "-U", j.id.UUID("root file system").String(),
		// The file is new: its holes are the zeros that tables and journal want.
		"-E", fmt.Sprintf("offset=%d,nodiscard,assume_storage_prezeroed=1,root_owner=0:0,hash_seed=%s", l.root.Start, j.id.UUID("hash seed")),
		j.disk(), strconv.FormatInt(l.rootBlocks, 10),
	}})
	if err != nil {
		return fmt.Errorf("making the root file system: %w", err)
	}

	script := j.script()
	scriptPath := filepath.Join(j.work, "script")
	if err := os.WriteFile(scriptPath, script.text.Bytes(), 0o644); err != nil {
		return fmt.Errorf("filling the root file system: %w", err)
	}
	j.progress.Stage("writing the disk", int64(script.files), progress.Items)
	var said bytes.Buffer
	_, err = program.Run(ctx, program.Command{
		Dir: j.work, Env: j.env(), Stdout: &lineCounter{each: script.lines(), report: j.progress}, Stderr: &said,
		Args: []string{"debugfs", "-w", "-f", scriptPath, fmt.Sprintf("%s?offset=%d", j.disk(), l.root.Start)},
	})
	// debugfs ends with 0 whatever its commands did. What tells is that it
	// said anything at all after its own name and version.
	if _, errors, _ := bytes.Cut(said.Bytes(), []byte("\n")); err == nil && len(bytes.TrimSpace(errors)) > 0 {
		first, _, _ := bytes.Cut(errors, []byte("\n"))
		err = fmt.Errorf("debugfs: %s", first)
	}
	if err != nil {
		return fmt.Errorf("filling the root file system: %w", err)
	}
	return nil
}

// script is a list of debugfs commands. All names in it are ours: the files
// to copy are reached through links in the work directory.
type script struct {
	text  bytes.Buffer
	files int
	count int // commands
}

// lines is how many lines debugfs prints for one file: each command, and the
// inode of each new file.
func (s *script) lines() int { return max(1, (s.count+s.files)/max(1, s.files)) }

func (s *script) add(format string, args ...any) {
	fmt.Fprintf(&s.text, format+"\n", args...)
	s.count++
}

func (s *script) mkdir(path string, mode uint32) {
	s.add("mkdir %s", path)
	s.add("sif %s mode 0%o", path, 0o40000|mode)
}

// file copies source to name in the current directory. debugfs gives it the
// source's permissions, which depend on who built.
func (s *script) file(source, name string, mode uint32) {
	s.add("write %s %s", source, name)
	s.add("sif %s mode 0%o", name, 0o100000|mode)
	s.files++
}

// script puts together DESIGN §3's tree. The deployment's etc/ and work/ are
// left to its first boot, as on a machine that staged it: that they are there
// says that it ran.
func (j *job) script() *script {
	s := new(script)
	digest := j.content.Release.Root().Digest.String()
	s.mkdir("/ashlar", 0o755)
	s.mkdir("/ashlar/objects", 0o700)
	s.mkdir("/ashlar/images", 0o700)
	for _, dir := range []string{"deployments", "deployments/" + digest, "var", "trust"} {
		s.mkdir("/ashlar/"+dir, 0o755)
	}
	s.mkdir("/ashlar/tmp", 0o700)

	s.add("cd /ashlar/deployments/%s", digest)
	s.file("deployment.json", "deployment.json", 0o644)
	s.file("release.json", "release.json", 0o644)
	s.add("cd /ashlar/images")
	s.file("erofs", digest, 0o444)
	last := ""
	for _, name := range j.objects { // sorted
		if dir := name[:2]; dir != last {
			s.mkdir("/ashlar/objects/"+dir, 0o700)
			s.add("cd /ashlar/objects/%s", dir)
			last = dir
		}
		s.file("objects/"+name, name[3:], 0o444)
	}
	s.add("cd /ashlar")
	s.file("empty", "unsealed", 0o644)
	return s
}

// lineCounter reports one item of progress for so many lines.
type lineCounter struct {
	each, lines int
	report      progress.Reporter
}

func (c *lineCounter) Write(p []byte) (int, error) {
	c.lines += bytes.Count(p, []byte("\n"))
	if c.lines >= c.each {
		c.report.Add(int64(c.lines / c.each))
		c.lines %= c.each
	}
	return len(p), nil
}

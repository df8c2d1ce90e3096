package main

import (
	"context"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/medium"
	"github.com/ashlar-os/ashlar/internal/image/verity"
	"github.com/ashlar-os/ashlar/internal/machine/esp"
	"github.com/ashlar-os/ashlar/internal/machine/store"
	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/progress"
)

// The verbs that run in the virtual machine of the step install.

// runSeal seals every file of a directory with fs-verity, as many at once as the store
// does, and syncs: what installing does besides copying.
func runSeal(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("seal", flag.ContinueOnError)
	dir := flags.String("dir", "", "directory of files to seal")
	if err := flags.Parse(args); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	err := filepath.WalkDir(*dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		group.Go(func() error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			return verity.Enable(f)
		})
		return ctx.Err()
	})
	if err := errors.Join(err, group.Wait()); err != nil {
		return err
	}
	root, err := os.Open(*dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return unix.Syncfs(int(root.Fd()))
}

// runCopy is the installer's step "copying the system" with a seal that costs nothing:
// the same calls, in the same order, but that the kernel does not hash what was copied.
// With -learn it only notes what the seal has to say.
func runCopy(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("copy", flag.ContinueOnError)
	payload := flags.String("payload", "/sysroot/ashlar", "the medium's payload")
	papers := flags.String("papers", "/dev/disk/by-partlabel/"+medium.LabelPapers, "the medium's papers")
	root := flags.String("root", "", "where the root file system is mounted")
	boot := flags.String("esp", "", "where the ESP is mounted")
	known := flags.String("known", "", "file with what is known of the payload's files")
	learn := flags.Bool("learn", false, "make that file, and stop")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *learn {
		return learnFiles(*payload, *known)
	}
	seal, err := readKnown(*known)
	if err != nil {
		return err
	}
	f, err := os.Open(*papers)
	if err != nil {
		return err
	}
	defer f.Close()
	words, err := medium.ReadPapers(f)
	if err != nil {
		return err
	}
	keys, err := os.ReadFile(update.RootPath)
	if err != nil {
		return err
	}
	if err := tellKernel(beginCopy); err != nil {
		return err
	}
	s, err := store.Create(filepath.Join(*root, "ashlar"))
	if err != nil {
		return err
	}
	s.Sealer = seal
	partition, err := esp.Open(*boot)
	if err != nil {
		return err
	}
	unlock, err := s.Lock("bench")
	if err != nil {
		return err
	}
	defer unlock()
	m := &update.Machine{Store: s, ESP: partition, Root: keys, By: "bench"}
	found, err := m.CheckMedium(ctx, update.Medium{Document: words.Document, Trust: words.Trust, Payload: *payload}, store.Origin{})
	if err != nil {
		return err
	}
	plan, err := m.PlanStage(ctx, found, progress.None)
	if err != nil {
		return err
	}
	if err := m.Stage(ctx, plan, progress.None); err != nil {
		return err
	}
	return tellKernel(endCopy)
}

// What runCopy tells the kernel's log, which is also the console.
const (
	beginCopy = "ashlar-bench: copying"
	endCopy   = "ashlar-bench: copied"
)

// tellKernel writes a line. Without its end the kernel would wait for more.
func tellKernel(line string) error { return os.WriteFile("/dev/kmsg", []byte("<5>"+line+"\n"), 0) }

// knownFiles is a seal that seals nothing, and knows a file's digest by its size, its
// beginning and its end; the few files that have those in common are hashed.
type knownFiles struct{ digests map[fingerprint]verity.Digest }

type fingerprint struct {
	Size int64
	Sum  [sha256.Size]byte // of the first and the last bytes
}

func (k *knownFiles) Seal(*os.File) error { return nil }

func (k *knownFiles) Measure(f *os.File) (verity.Digest, error) {
	p, err := takeFingerprint(f)
	if err != nil {
		return verity.Digest{}, err
	}
	if d := k.digests[p]; !d.IsZero() {
		return d, nil
	}
	return store.Software.Measure(f)
}

func takeFingerprint(f *os.File) (p fingerprint, err error) {
	st, err := f.Stat()
	if err != nil {
		return p, err
	}
	const each = 512
	b := make([]byte, 2*each)
	p.Size = st.Size()
	for i, off := range []int64{0, max(0, p.Size-each)} {
		if _, err := f.ReadAt(b[i*each:(i+1)*each], off); err != nil && !errors.Is(err, io.EOF) {
			return p, err
		}
	}
	p.Sum = sha256.Sum256(b)
	return p, nil
}

// knownFile is what the file of -known lists.
type knownFile struct {
	Print  fingerprint
	Digest verity.Digest
}

// learnFiles notes the fingerprints of all objects and images of a payload.
func learnFiles(payload, known string) error {
	var list []knownFile
	for _, dir := range []string{"objects", "images"} {
		root := filepath.Join(payload, dir)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			digest, err := verity.Parse(strings.ReplaceAll(strings.TrimPrefix(path, root+"/"), "/", ""))
			if err != nil {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			p, err := takeFingerprint(f)
			if err != nil {
				return err
			}
			list = append(list, knownFile{p, digest})
			return nil
		})
		if err != nil {
			return err
		}
	}
	f, err := os.Create(known)
	if err != nil {
		return err
	}
	return errors.Join(gob.NewEncoder(f).Encode(list), f.Close())
}

func readKnown(path string) (*knownFiles, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []knownFile
	if err := gob.NewDecoder(f).Decode(&list); err != nil {
		return nil, err
	}
	k := &knownFiles{make(map[fingerprint]verity.Digest, len(list))}
	for _, file := range list {
		if _, twice := k.digests[file.Print]; twice {
			file.Digest = verity.Digest{}
		}
		k.digests[file.Print] = file.Digest
	}
	return k, nil
}

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ashlar-os/ashlar/internal/image/composefs"
	"github.com/ashlar-os/ashlar/internal/image/tree"
	"github.com/ashlar-os/ashlar/internal/image/verity"
)

// newStore makes a store that measures by reading, as no test can count on
// fs-verity.
func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Create(filepath.Join(t.TempDir(), "ashlar"))
	if err != nil {
		t.Fatal(err)
	}
	s.Sealer = Software
	return s
}

func putObject(t testing.TB, s *Store, content string) verity.Digest {
	t.Helper()
	d := verity.SumBytes([]byte(content))
	if err := s.PutObject(t.Context(), d, int64(len(content)), strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	return d
}

// content is a file's content of more than one block, so that it is an object.
func content(word string) string { return strings.Repeat(word+" ", 2000) }

// putImage stores a real image with files of these contents, objects and all.
func putImage(t testing.TB, s *Store, contents map[string]string) verity.Digest {
	t.Helper()
	root := &tree.Node{Mode: tree.TypeDir | 0o755}
	for name, c := range contents {
		d := putObject(t, s, c)
		root.Add(&tree.Node{
			Name: name, Mode: tree.TypeRegular | 0o644, Nlink: 1,
			Size: uint64(len(c)), Digest: d, Payload: ObjectName(d),
		})
	}
	var b bytes.Buffer
	if err := composefs.Write(&b, &tree.Tree{Root: root}, composefs.Options{}); err != nil {
		t.Fatal(err)
	}
	d := verity.SumBytes(b.Bytes())
	if err := s.PutImage(t.Context(), d, int64(b.Len()), &b); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPutAndHave(t *testing.T) {
	s := newStore(t)
	d := putObject(t, s, "hello")
	if !s.HasObject(d) {
		t.Error("an object that was stored is missing")
	}
	st, err := os.Stat(s.ObjectPath(d))
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != 0o444 {
		t.Errorf("its mode is %v", st.Mode())
	}
	if st, err := os.Stat(s.ObjectsPath()); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the object directory: %v, %v", st.Mode(), err)
	}
	f, err := s.OpenObject(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); string(b) != "hello" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	assertNoTmp(t, s)
}

func assertNoTmp(t *testing.T, s *Store) {
	t.Helper()
	if list, err := os.ReadDir(filepath.Join(s.Dir, tmpDir)); err != nil || len(list) != 0 {
		t.Errorf("tmp holds %v, %v", list, err)
	}
}

func TestPutRefuses(t *testing.T) {
	s := newStore(t)
	d := verity.SumBytes([]byte("hello"))
	for name, r := range map[string]io.Reader{
		"other bytes": strings.NewReader("hallo"),
		"fewer bytes": strings.NewReader("hell"),
		"more bytes":  strings.NewReader("hello!"),
		"an error":    io.MultiReader(strings.NewReader("hel"), errReader{}),
	} {
		if err := s.PutObject(t.Context(), d, 5, r); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := os.Lstat(s.ObjectPath(d)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: something has the object's name", name)
		}
		assertNoTmp(t, s)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("the line is cut") }

func TestDamagedNamesAreMissingAndHealed(t *testing.T) {
	s := newStore(t)
	d := putObject(t, s, "hello")
	path := s.ObjectPath(d)
	for name, damage := range map[string]func() error{
		"cut short": func() error { return os.Truncate(path, 2) },
		"changed":   func() error { return os.WriteFile(path, []byte("jello"), 0o600) },
		"a directory": func() error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		},
		"a link": func() error {
			return errors.Join(os.Remove(path), os.Symlink("/dev/null", path))
		},
	} {
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if s.HasObject(d) {
			t.Errorf("%s: counts as there", name)
		}
		if st, err := os.Lstat(path); err == nil && st.IsDir() {
			os.Remove(path) // rename(2) cannot put a file over a directory
		}
		putObject(t, s, "hello")
		if !s.HasObject(d) {
			t.Errorf("%s: not healed", name)
		}
	}
}

func TestBatchFromManyGoroutines(t *testing.T) {
	s := newStore(t)
	b, err := s.NewBatch()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	var wg sync.WaitGroup
	var digests [200]verity.Digest
	for i := range digests {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := fmt.Sprint("object ", i%150) // some of them twice
			digests[i] = verity.SumBytes([]byte(c))
			if err := b.PutObject(digests[i], int64(len(c)), strings.NewReader(c)); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	for _, d := range digests {
		if s.HasObject(d) {
			t.Fatal("an object is there before Commit")
		}
	}
	if err := b.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, d := range digests {
		if !s.HasObject(d) {
			t.Fatalf("object %s is missing", d.Short())
		}
	}
	if err := b.Commit(t.Context()); err == nil {
		t.Error("a second Commit")
	}
	assertNoTmp(t, s)
}

func TestBatchAbortAndCancelLeaveNothing(t *testing.T) {
	s := newStore(t)
	for name, end := range map[string]func(*Batch){
		"abort": (*Batch).Abort,
		"cancel": func(b *Batch) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := b.Commit(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("Commit says %v", err)
			}
		},
	} {
		b, err := s.NewBatch()
		if err != nil {
			t.Fatal(err)
		}
		d := verity.SumBytes([]byte("x"))
		if err := b.PutObject(d, 1, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		end(b)
		if s.HasObject(d) {
			t.Errorf("%s: the object is there", name)
		}
		assertNoTmp(t, s)
	}
}

// badSealer measures something else than was written, as a failing disk or a
// tampering file system would.
type badSealer struct{ Sealer }

func (badSealer) Measure(*os.File) (verity.Digest, error) { return verity.Digest{1}, nil }

func TestBatchChecksWhatWasSealed(t *testing.T) {
	s := newStore(t)
	s.Sealer = badSealer{Software}
	d := verity.SumBytes([]byte("x"))
	err := s.PutObject(t.Context(), d, 1, strings.NewReader("x"))
	var wrong *DigestError
	if !errors.As(err, &wrong) || wrong.Want != d {
		t.Errorf("got %v, want a DigestError", err)
	}
	if _, err := os.Lstat(s.ObjectPath(d)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it got its name")
	}
}

// TestKernelSealer runs where the file system can seal and checks the seal;
// elsewhere it checks that nothing passes for sealed.
func TestKernelSealer(t *testing.T) {
	s := newStore(t)
	s.Sealer = Kernel
	c := content("sealed")
	d := verity.SumBytes([]byte(c))
	err := s.PutObject(t.Context(), d, int64(len(c)), strings.NewReader(c))
	if errors.Is(err, verity.ErrUnsupported) {
		if s.HasObject(d) {
			t.Error("an object without a seal counts as sealed")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if !s.HasObject(d) {
		t.Error("the sealed object is missing")
	}
	if err := os.WriteFile(s.ObjectPath(d), []byte("x"), 0o600); err == nil {
		t.Error("a sealed object can be written")
	}
}

func TestOpen(t *testing.T) {
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("opened an empty directory as a store")
	}
	s := newStore(t)
	if _, err := Create(s.Dir); err != nil {
		t.Errorf("creating a store that is there: %v", err)
	}
}

func TestLock(t *testing.T) {
	s := newStore(t)
	unlock, err := s.Lock("update")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Lock("gc")
	var busy *BusyError
	if !errors.Is(err, ErrBusy) || !errors.As(err, &busy) || busy.Verb != "update" || busy.PID != os.Getpid() {
		t.Errorf("the second lock says %v", err)
	}
	unlock()
	unlock, err = s.Lock("gc")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestCleanTmp(t *testing.T) {
	s := newStore(t)
	if _, err := s.NewBatch(); err != nil { // a run that was killed
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, tmpDir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.CleanTmp(); err != nil {
		t.Fatal(err)
	}
	assertNoTmp(t, s)
}

func TestSealAll(t *testing.T) {
	s := newStore(t)
	putImage(t, s, map[string]string{"a": content("a"), "b": content("b")})
	n := 0
	var mu sync.Mutex
	count := func(k int) {
		mu.Lock()
		n += k
		mu.Unlock()
	}
	if err := s.SealAll(t.Context(), count); err != nil || n != 3 {
		t.Errorf("sealed %d, %v", n, err)
	}
	flip(t, s.ObjectPath(verity.SumBytes([]byte(content("b")))))
	var wrong *DigestError
	if err := s.SealAll(t.Context(), nil); !errors.As(err, &wrong) {
		t.Errorf("a damaged object was sealed: %v", err)
	}
}

func TestSpace(t *testing.T) {
	sp, err := newStore(t).Space()
	if err != nil || sp.Free <= 0 || sp.Total < sp.Free || sp.Block <= 0 {
		t.Errorf("%+v, %v", sp, err)
	}
	// Content, hash tree and descriptor, each in whole blocks.
	sp = Space{Block: 4096}
	if got, want := sp.Need(1, 4096, 0), int64((1+0+1)+(1+1+1)+(0+0+1))*4096; got != want {
		t.Errorf("three small files need %d bytes, want %d", got, want)
	}
}

package sysroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/modules"
)

// loader loads the modules of an initramfs, each once, what it needs first. It
// may be used from several goroutines; who asks for a module that is being
// loaded waits for it.
type loader struct {
	list   *modules.List
	insert func(name string) error // finit_module(2)
	mu     sync.Mutex
	state  map[string]*loading
	took   []Step
}

type loading struct {
	once sync.Once
	err  error
}

func newLoader(list *modules.List, insert func(string) error) *loader {
	return &loader{list: list, insert: insert, state: map[string]*loading{}}
}

// load loads a module and what it needs. Loading one twice, or one that the
// list does not have because it is built in, is no error.
func (l *loader) load(name string) error {
	m := l.list.Find(name)
	if m == nil {
		return nil
	}
	l.mu.Lock()
	s := l.state[name]
	if s == nil {
		s = &loading{}
		l.state[name] = s
	}
	l.mu.Unlock()
	// The list has no cycles (modules.Parse), so nobody waits for himself.
	s.once.Do(func() {
		for _, n := range m.Needs {
			if err := l.load(n.Name); err != nil && !n.Soft {
				s.err = fmt.Errorf("module %q needs %w", name, err)
				return
			}
		}
		start := time.Now()
		if err := l.insert(name); err != nil {
			s.err = fmt.Errorf("module %q: %w", name, err)
			return
		}
		l.mu.Lock()
		l.took = append(l.took, Step{name, time.Since(start).Milliseconds()})
		l.mu.Unlock()
	})
	return s.err
}

// loadAll loads several modules and returns all failures.
func (l *loader) loadAll(names []string) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, l.load(name))
	}
	return errors.Join(errs...)
}

// times lists what was loaded so far and how long the kernel took for each.
func (l *loader) times() []Step {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.took)
}

// readList reads the list of modules that the initramfs carries.
func readList(path string) (*modules.List, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the module list: %w", err)
	}
	defer f.Close()
	return modules.Parse(f)
}

// insertModule gives a module of the initramfs to the kernel. Drivers that are
// not known to be quick look for their devices in the kernel's own time, so
// that one slow controller does not hold up the disk on another; what they
// find is announced.
func insertModule(name string) error {
	f, err := os.Open(filepath.Join(modules.Dir, name+".ko"))
	if err != nil {
		return err
	}
	defer f.Close()
	parameters := "async_probe=1"
	if slices.Contains(quick, name) {
		parameters = ""
	}
	err = unix.FinitModule(int(f.Fd()), parameters, 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

package sysroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ashlar-os/ashlar/internal/image/modules"
)

// loader loads the modules of an initramfs, each once, what it needs first.
// Modules that do not need one another load at the same time.
type loader struct {
	list   *modules.List
	insert func(name string) error // finit_module(2)
	mu     sync.Mutex
	state  map[string]*loading
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
		if err := l.insert(name); err != nil {
			s.err = fmt.Errorf("module %q: %w", name, err)
		}
	})
	return s.err
}

// loadAll loads several modules at once and returns all failures.
func (l *loader) loadAll(names []string) error {
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = l.load(name)
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// always lists what is loaded at every boot.
func always(list *modules.List) []string {
	var names []string
	for _, m := range list.Modules {
		if m.When == modules.Always {
			names = append(names, m.Name)
		}
	}
	return names
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

// insertModule gives a module of the initramfs to the kernel.
func insertModule(name string) error {
	f, err := os.Open(filepath.Join(modules.Dir, name+".ko"))
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// buses are where devices announce what drives them. Looking only here is
// much quicker than walking /sys/devices.
var buses = []string{"pci", "virtio", "scsi", "usb", "vmbus", "xen", "mmc", "acpi", "platform"}

// coldplug finds the modules for devices that are there.
type coldplug struct {
	sys  string
	seen map[string]bool // modaliases
}

// scan returns the modules for devices that appeared since the last scan.
func (c *coldplug) scan(list *modules.List) []string {
	var names []string
	look := func(path string) {
		b, err := os.ReadFile(path)
		alias := strings.TrimSpace(string(b))
		if err != nil || alias == "" || c.seen[alias] {
			return
		}
		c.seen[alias] = true
		names = append(names, list.Match(alias)...)
	}
	look(filepath.Join(c.sys, "devices/system/cpu/modalias"))
	for _, bus := range buses {
		dir := filepath.Join(c.sys, "bus", bus, "devices")
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // this machine has no such bus
		}
		for _, e := range entries {
			look(filepath.Join(dir, e.Name(), "modalias"))
		}
	}
	return names
}

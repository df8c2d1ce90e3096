package torture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/ashlar-os/ashlar/internal/registry"
	"github.com/ashlar-os/ashlar/internal/vmtest"
	"github.com/ashlar-os/ashlar/internal/vmtest/writelog"
)

// Recording is one life of a machine: the disk before, every write to it since,
// and what was promised when. It is kept as recording.json.
type Recording struct {
	Base     string            // the disk as it was at first
	Logs     []string          // of its starts, in order
	Site     string            // layout of the repository that it follows
	Port     string            // on the host's loopback, under which it knows that
	Images   map[string]string // digest of each version's image
	UKIs     map[string]string // sha256 of each version's boot file
	Phases   []Phase
	Promises []Promise
	Careless Promise         // a file that was written and never flushed: it is not promised
	Settings vmtest.Position // from here on /etc has what settings says, in every deployment

	// Of an installation:
	Medium string `json:",omitempty"` // that was installed from, with answers
	After  string `json:",omitempty"` // the disk in the end
}

// divided is the disk when it has partitions.
func (rec *Recording) divided() string {
	if rec.Medium != "" {
		return rec.After
	}
	return rec.Base
}

// Phase is a part of the life. It lasts from one entry of the logs to that of
// the next phase; a cut during it has to leave what it says.
type Phase struct {
	Name  string
	Doing string // what Ashlar changes meanwhile, see below
	From  vmtest.Position
	Boots []string // one of these versions boots next
	Whole []string // all of these are there, to the last byte
}

// What Ashlar does in a phase. In the others it changes nothing.
const (
	Updating    = "update"
	FirstBoot   = "first boot" // from power to systemd: the loader's count, the merge of /etc
	Blessing    = "bless"
	RollingBack = "rollback"
	Clearing    = "gc"
	Installing  = "install"
	Nothing     = ""
)

// Doings are all things that Ashlar does in a machine's life. Installing is before that.
var Doings = []string{Updating, FirstBoot, Blessing, RollingBack, Clearing}

// Promise is a file that a program wrote and flushed, below the root
// partition's /ashlar/var.
type Promise struct {
	From          vmtest.Position
	Path, Content string
}

// Serve serves the repository under the address that the machine knows, until Close.
func (rec *Recording) Serve() (io.Closer, error) {
	site, err := registry.NewServer(rec.Site, registry.ServerOptions{})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", rec.Port))
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: site}
	go server.Serve(listener) //nolint:errcheck // ends with Close
	return server, nil
}

func (rec *Recording) write(name string) error {
	b, err := json.MarshalIndent(rec, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name, b, 0o644)
}

// compare says whether the logs, replayed to their end, give the disk as it is in
// the end: then nothing is missing from them.
func (rec *Recording) compare(after string) (err error) {
	want, err := os.Open(after)
	if err != nil {
		return err
	}
	defer want.Close()
	return rec.open(func(log *writelog.Log, replay *writelog.Replay) error {
		if err := replay.Seek(writelog.Cut{Epoch: log.Epochs(), Fate: writelog.Dropped}); err != nil {
			return err
		}
		a, b := make([]byte, 1<<20), make([]byte, 1<<20)
		for at := int64(0); at < replay.Size(); at += int64(len(a)) {
			n, err := replay.ReadAt(a, at)
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if m, err := want.ReadAt(b, at); m != n {
				return fmt.Errorf("the disk has %d bytes at %d, %d were expected: %w", m, at, n, err)
			}
			if !bytes.Equal(a[:n], b[:n]) {
				return fmt.Errorf("the write logs do not give the disk, in the MiB at %d", at)
			}
		}
		return nil
	})
}

// open replays the recording from its beginning.
func (rec *Recording) open(fn func(*writelog.Log, *writelog.Replay) error) (err error) {
	log, err := writelog.Open(rec.Logs...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	base, err := os.Open(rec.Base)
	if err != nil {
		return err
	}
	defer base.Close()
	info, err := base.Stat()
	if err != nil {
		return err
	}
	replay, err := log.Replay(base, info.Size())
	if err != nil {
		return err
	}
	return fn(log, replay)
}

// Load reads what Record wrote to dir.
func Load(dir string) (*Recording, error) {
	name := filepath.Join(dir, "recording.json")
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var rec Recording
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&rec); err != nil {
		return nil, fmt.Errorf("reading %q: %w", name, err)
	}
	return &rec, nil
}

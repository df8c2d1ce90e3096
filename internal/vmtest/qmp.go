package vmtest

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
)

// qmp speaks the QEMU machine protocol: one JSON value a message.
// https://www.qemu.org/docs/master/interop/qmp-spec.html
type qmp struct {
	mu    sync.Mutex
	enc   *json.Encoder
	dec   *json.Decoder
	reset bool // QEMU ends because of a reset, and not because the machine is off
}

// message is whatever QEMU says: an event, or the answer to a command.
type message struct {
	Event string `json:"event"`
	Data  struct {
		Reason string `json:"reason"`
	} `json:"data"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
}

func newQMP(conn io.ReadWriter) (*qmp, error) {
	q := &qmp{enc: json.NewEncoder(conn), dec: json.NewDecoder(conn)}
	var greeting struct {
		QMP json.RawMessage `json:"QMP"`
	}
	if err := q.dec.Decode(&greeting); err != nil {
		return nil, fmt.Errorf("reading QEMU's greeting: %w", err)
	}
	return q, q.execute("qmp_capabilities", nil, nil)
}

// read returns the next message, and keeps in mind what it says of the end.
func (q *qmp) read() (m message, err error) {
	err = q.dec.Decode(&m)
	if err == nil && m.Event == "SHUTDOWN" {
		q.reset = strings.HasSuffix(m.Data.Reason, "reset")
	}
	return m, err
}

// execute runs one command and decodes what it returns into result, if not nil.
func (q *qmp) execute(command string, arguments, result any) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := q.enc.Encode(request); err != nil {
		return fmt.Errorf("asking QEMU for %q: %w", command, err)
	}
	for {
		switch reply, err := q.read(); {
		case err != nil:
			return fmt.Errorf("waiting for QEMU's answer to %q: %w", command, err)
		case reply.Error != nil:
			return fmt.Errorf("QEMU refused %q: %s", command, reply.Error.Desc)
		case reply.Event != "":
			continue
		case result != nil:
			return json.Unmarshal(reply.Return, result)
		default:
			return nil
		}
	}
}

// ended reads what QEMU said last, once it is gone, and reports whether the
// machine was reset and not turned off.
func (q *qmp) ended() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if _, err := q.read(); err != nil {
			return q.reset
		}
	}
}

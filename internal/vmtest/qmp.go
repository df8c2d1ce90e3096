package vmtest

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// qmp speaks the QEMU machine protocol: one JSON value a message.
// https://www.qemu.org/docs/master/interop/qmp-spec.html
type qmp struct {
	mu  sync.Mutex
	enc *json.Encoder
	dec *json.Decoder
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
		var reply struct {
			Event  string          `json:"event"`
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		switch err := q.dec.Decode(&reply); {
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

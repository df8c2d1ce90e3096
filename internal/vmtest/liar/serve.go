package liar

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// Numbers of the protocol.
const (
	magicServer  = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption  = 0x49484156454f5054 // "IHAVEOPT"
	magicAnswer  = 0x0003e889045565a9
	magicRequest = 0x25609513
	magicReply   = 0x67446698

	fixedNewstyle = 1
	hasFlags      = 1
	sendFlush     = 4

	optionAbort = 2
	optionGo    = 7

	answerAck         = 1
	answerInfo        = 3
	answerUnsupported = 1<<31 + 1

	commandRead       = 0
	commandWrite      = 1
	commandDisconnect = 2
	commandFlush      = 3

	maxOption  = 64 << 10
	maxRequest = 32 << 20
	errInvalid = 22 // EINVAL
)

// Serve answers whoever connects, one after the other, until the listener is closed.
func (d *Drive) Serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		err = d.serve(conn)
		conn.Close()
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
	}
}

func (d *Drive) serve(conn io.ReadWriter) error {
	if err := send(conn, uint64(magicServer), uint64(magicOption), uint16(fixedNewstyle)); err != nil {
		return err
	}
	var flags uint32
	if err := receive(conn, &flags); err != nil {
		return err
	}
	for {
		done, err := d.option(conn)
		if err != nil {
			return err
		}
		if done {
			break
		}
	}
	for {
		if err := d.request(conn); err != nil {
			return err
		}
	}
}

// option answers one wish of the client's, and reports whether that was the last.
func (d *Drive) option(conn io.ReadWriter) (done bool, err error) {
	var head struct {
		Magic        uint64
		Name, Length uint32
	}
	if err := receive(conn, &head); err != nil {
		return false, err
	}
	if head.Magic != magicOption || head.Length > maxOption {
		return false, fmt.Errorf("not an option of the NBD protocol: %+v", head)
	}
	if _, err := io.CopyN(io.Discard, conn, int64(head.Length)); err != nil {
		return false, err
	}
	switch head.Name {
	case optionGo:
		err := send(conn, uint64(magicAnswer), head.Name, uint32(answerInfo), uint32(12),
			uint16(0), uint64(d.Claims), uint16(hasFlags|sendFlush))
		if err != nil {
			return false, err
		}
		return true, send(conn, uint64(magicAnswer), head.Name, uint32(answerAck), uint32(0))
	case optionAbort:
		return false, io.EOF
	}
	return false, send(conn, uint64(magicAnswer), head.Name, uint32(answerUnsupported), uint32(0))
}

// request does one thing that the drive is asked for.
func (d *Drive) request(conn io.ReadWriter) error {
	var head struct {
		Magic       uint32
		Flags, Kind uint16
		Cookie      uint64
		Offset      uint64
		Length      uint32
	}
	if err := receive(conn, &head); err != nil {
		return err
	}
	if head.Magic != magicRequest || head.Length > maxRequest {
		return fmt.Errorf("not a request of the NBD protocol: %+v", head)
	}
	var failure uint32
	var b []byte
	switch head.Kind {
	case commandRead:
		b = make([]byte, head.Length)
		d.read(b, int64(head.Offset))
	case commandWrite:
		data := make([]byte, head.Length)
		if _, err := io.ReadFull(conn, data); err != nil {
			return err
		}
		d.write(data, int64(head.Offset))
	case commandFlush:
	case commandDisconnect:
		return io.EOF
	default:
		failure = errInvalid
	}
	return send(conn, uint32(magicReply), failure, head.Cookie, b)
}

// send writes numbers in network order, all at once.
func send(w io.Writer, values ...any) error {
	var b bytes.Buffer
	for _, v := range values {
		if err := binary.Write(&b, binary.BigEndian, v); err != nil {
			return err
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func receive(r io.Reader, v any) error { return binary.Read(r, binary.BigEndian, v) }

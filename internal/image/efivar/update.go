package efivar

import (
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf16"

	"github.com/ashlar-os/ashlar/internal/image/authenticode"
)

// Variable is a variable of Secure Boot.
type Variable struct {
	Name   string
	Vendor GUID
}

// The variables of Secure Boot.
var (
	PK  = Variable{"PK", VendorGlobal}
	KEK = Variable{"KEK", VendorGlobal}
	DB  = Variable{"db", VendorSecurity}
	DBX = Variable{"dbx", VendorSecurity}
)

// File is the variable's name in efivarfs.
func (v Variable) File() string { return v.Name + "-" + v.Vendor.String() }

// Attributes of these variables: kept, seen by the loader and by Linux, and
// changed by signed updates with a time only.
const Attributes = 0x01 | 0x02 | 0x04 | 0x20

// Update is a signed change of a variable.
type Update struct {
	Time    time.Time // to the second, UTC
	Signer  *x509.Certificate
	Entries []Entry
}

// Of an EFI_VARIABLE_AUTHENTICATION_2: EFI_TIME, and the header of the
// WIN_CERTIFICATE_UEFI_GUID behind it.
const (
	timeSize     = 16
	certHeader   = 24
	certRevision = 0x0200
	certTypeGUID = 0x0ef1
)

// Sign makes the update that sets v to entries. Firmware takes it where at is
// later than the time of v's last update and, outside setup mode, where the
// signer is one whom PK (for PK and KEK) or KEK (for db and dbx) names.
func Sign(v Variable, entries []Entry, at time.Time, signer *authenticode.Signer) ([]byte, error) {
	lists := Encode(entries)
	stamp := encodeTime(at)
	cms, err := signer.SignDetached(v.signed(stamp, lists))
	if err != nil {
		return nil, fmt.Errorf("signing an update of %s: %w", v.Name, err)
	}
	b := append([]byte(nil), stamp...)
	b = binary.LittleEndian.AppendUint32(b, uint32(certHeader+len(cms)))
	b = binary.LittleEndian.AppendUint16(b, certRevision)
	b = binary.LittleEndian.AppendUint16(b, certTypeGUID)
	b = append(b, typePKCS7[:]...)
	b = append(b, cms...)
	return append(b, lists...), nil
}

// ParseUpdate reads an update of v and checks its signature; whether the
// signer may change v, the firmware knows.
func ParseUpdate(v Variable, b []byte) (*Update, error) {
	u, err := v.parseUpdate(b)
	if err != nil {
		return nil, fmt.Errorf("reading an update of %s: %w", v.Name, err)
	}
	return u, nil
}

func (v Variable) parseUpdate(b []byte) (*Update, error) {
	if len(b) > MaxVariable {
		return nil, fmt.Errorf("it has %d bytes, at most %d are read", len(b), MaxVariable)
	}
	if len(b) < timeSize+certHeader {
		return nil, fmt.Errorf("it is cut after %d bytes", len(b))
	}
	at, err := decodeTime(b[:timeSize])
	if err != nil {
		return nil, err
	}
	cert := b[timeSize:]
	size := int64(binary.LittleEndian.Uint32(cert))
	switch {
	case binary.LittleEndian.Uint16(cert[4:]) != certRevision, binary.LittleEndian.Uint16(cert[6:]) != certTypeGUID, GUID(cert[8:24]) != typePKCS7:
		return nil, fmt.Errorf("its signature is of another kind than updates with a time have")
	case size < certHeader || size > int64(len(cert)):
		return nil, fmt.Errorf("its signature says it has %d bytes, of %d", size, len(cert))
	}
	u, lists := &Update{Time: at}, cert[size:]
	if u.Signer, err = authenticode.VerifyDetached(cert[certHeader:size], v.signed(b[:timeSize], lists)); err != nil {
		return nil, err
	}
	u.Entries, err = Parse(lists)
	return u, err
}

// signed is what the signature of an update is over.
func (v Variable) signed(stamp, lists []byte) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(v.Name)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	b = append(b, v.Vendor[:]...)
	b = binary.LittleEndian.AppendUint32(b, Attributes)
	b = append(b, stamp...)
	return append(b, lists...)
}

// encodeTime is an EFI_TIME with the fields that updates use: to the second,
// with no time zone.
func encodeTime(t time.Time) []byte {
	t = t.UTC()
	b := binary.LittleEndian.AppendUint16(nil, uint16(t.Year()))
	b = append(b, byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()))
	return append(b, make([]byte, timeSize-len(b))...)
}

// decodeTime refuses what firmware refuses: anything but zeroes behind the seconds.
func decodeTime(b []byte) (time.Time, error) {
	if string(b[7:timeSize]) != string(make([]byte, timeSize-7)) {
		return time.Time{}, fmt.Errorf("its time %x is none that an update may have", b)
	}
	return time.Date(int(binary.LittleEndian.Uint16(b)), time.Month(b[2]), int(b[3]), int(b[4]), int(b[5]), int(b[6]), 0, time.UTC), nil
}

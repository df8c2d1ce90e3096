package efivar

import (
	"encoding/binary"
	"fmt"
)

// MaxVariable limits a variable in bytes. Microsoft's dbx has some 24 KiB,
// and firmware takes 32 to 64.
const MaxVariable = 1 << 20

// maxEntries limits what is in one variable; Microsoft's dbx has some 430.
const maxEntries = 1 << 14

// Entry is one entry of a signature list.
type Entry struct {
	Type, Owner GUID
	Data        []byte
}

// Of a signature list and of an entry, before what varies.
const (
	listHeader  = 28
	entryHeader = 16
)

// Parse reads the content of a variable.
func Parse(b []byte) (entries []Entry, err error) {
	if len(b) > MaxVariable {
		return nil, fmt.Errorf("%d bytes of signature lists, at most %d are read", len(b), MaxVariable)
	}
	for at := 0; at < len(b); {
		list := b[at:]
		if len(list) < listHeader {
			return nil, fmt.Errorf("signature list at byte %d: cut after %d bytes", at, len(list))
		}
		size := int64(binary.LittleEndian.Uint32(list[16:]))
		header := int64(binary.LittleEndian.Uint32(list[20:]))
		each := int64(binary.LittleEndian.Uint32(list[24:]))
		body := size - listHeader - header
		switch {
		case size > int64(len(list)) || body < 0:
			return nil, fmt.Errorf("signature list at byte %d: it says it has %d bytes, %d of them header, of %d", at, size, header, len(list))
		case each <= entryHeader || body%each != 0:
			return nil, fmt.Errorf("signature list at byte %d: %d bytes are no entries of %d", at, body, each)
		case int64(len(entries))+body/each > maxEntries:
			return nil, fmt.Errorf("more than %d entries in signature lists", maxEntries)
		}
		kind := GUID(list[:16])
		for rest := list[listHeader+header : size]; len(rest) > 0; rest = rest[each:] {
			entries = append(entries, Entry{Type: kind, Owner: GUID(rest[:16]), Data: rest[entryHeader:each]})
		}
		at += int(size)
	}
	return entries, nil
}

// Encode is the content of a variable with these entries, each in a list of
// its own: entries of one list have one length, and certificates seldom do.
func Encode(entries []Entry) []byte {
	var b []byte
	for _, e := range entries {
		each := entryHeader + len(e.Data)
		b = append(b, e.Type[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(listHeader+each))
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(each))
		b = append(b, e.Owner[:]...)
		b = append(b, e.Data...)
	}
	return b
}

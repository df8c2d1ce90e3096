package efivar

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// GUID is 16 bytes as EFI keeps them: the first three groups little endian.
type GUID [16]byte

// The vendors of variables, and the types of signature lists.
var (
	VendorGlobal   = mustParse("8be4df61-93ca-11d2-aa0d-00e098032b8c") // EFI_GLOBAL_VARIABLE
	VendorSecurity = mustParse("d719b2cb-3d3a-4596-a3bc-dad00e67656f") // EFI_IMAGE_SECURITY_DATABASE_GUID

	TypeX509       = mustParse("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
	TypeSHA256     = mustParse("c1c41626-504c-4092-aca9-41f936934328")
	TypeX509SHA256 = mustParse("3bd2a492-96c0-4079-b420-fcf98ef103ed")

	typePKCS7 = mustParse("4aafd29d-68df-49ee-8aa9-347d375665a7")
)

// ParseGUID reads the usual text of a GUID.
func ParseGUID(s string) (g GUID, err error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(raw) != len(g) || len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return g, fmt.Errorf("%q is no GUID", s)
	}
	copy(g[:], raw)
	g.swap()
	return g, nil
}

// String is the usual text of a GUID, in lower case.
func (g GUID) String() string {
	g.swap()
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[0:4], g[4:6], g[6:8], g[8:10], g[10:])
}

// swap turns the first three groups around, which is its own opposite.
func (g *GUID) swap() {
	binary.BigEndian.PutUint32(g[0:], binary.LittleEndian.Uint32(g[0:]))
	binary.BigEndian.PutUint16(g[4:], binary.LittleEndian.Uint16(g[4:]))
	binary.BigEndian.PutUint16(g[6:], binary.LittleEndian.Uint16(g[6:]))
}

// mustParse is for constants: it panics on what is not a GUID.
func mustParse(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic("efivar: " + err.Error())
	}
	return g
}

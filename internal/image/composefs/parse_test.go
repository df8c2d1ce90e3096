package composefs

import (
	"errors"
	"strings"
	"testing"
)

const rootLine = "/ 0 40755 2 0 0 0 0.0 - - -\n"

// TestParseErrors: every field has its own complaint, with its line and name.
func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                `the dump is empty: it has no line for "/"`,
		"/a 0 100644 1 0 0 0 0.0 - - -\n": `line 1 of the dump, field PATH: the first line is not "/"`,
		"/ 0 100644 1 0 0 0 0.0 - - -\n":  `line 1 of the dump, field PATH: "/" is not a directory`,
		rootLine + rootLine:               `line 2 of the dump, field PATH: "/" is there twice`,
		rootLine + "\n":                   `line 2 of the dump, field SIZE: the field is missing`,
		rootLine + "/a/b 0 100644 1 0 0 0 0.0 - - -\n":                                                             `line 2 of the dump, field PATH: "/a/b": no line before this one has its directory`,
		rootLine + "a 0 100644 1 0 0 0 0.0 - - -\n":                                                                `line 2 of the dump, field PATH: "a" does not begin with a slash`,
		rootLine + "/\\q 0 100644 1 0 0 0 0.0 - - -\n":                                                             `line 2 of the dump, field PATH: the escape "\\q" is unknown`,
		rootLine + "/\\x0 0 100644 1 0 0 0 0.0 - - -\n":                                                            `line 2 of the dump, field PATH: the escape "\\x0" does not have two hexadecimal digits`,
		rootLine + "/a -1 100644 1 0 0 0 0.0 - - -\n":                                                              `line 2 of the dump, field SIZE: "-1" is not a number in base 10`,
		rootLine + "/a 0 100649 1 0 0 0 0.0 - - -\n":                                                               `line 2 of the dump, field MODE: "100649" is not a number in base 8`,
		rootLine + "/a 0 100644 4294967296 0 0 0 0.0 - - -\n":                                                      `line 2 of the dump, field NLINK: "4294967296" is too large`,
		rootLine + "/a 0 100644 1 x 0 0 0.0 - - -\n":                                                               `line 2 of the dump, field UID: "x" is not a number in base 10`,
		rootLine + "/a 0 100644 1 0 x 0 0.0 - - -\n":                                                               `line 2 of the dump, field GID: "x" is not a number in base 10`,
		rootLine + "/a 0 20644 1 0 0 x 0.0 - - -\n":                                                                `line 2 of the dump, field RDEV: "x" is not a number in base 10`,
		rootLine + "/a 0 100644 1 0 0 0 7 - - -\n":                                                                 `line 2 of the dump, field MTIME: "7" is not a time in seconds and nanoseconds`,
		rootLine + "/a 0 100644 1 0 0 0 0.1000000000 - - -\n":                                                      `line 2 of the dump, field MTIME: "0.1000000000" is not a time in seconds and nanoseconds`,
		rootLine + "/a 0 120777 1 0 0 0 0.0 - - -\n":                                                               `line 2 of the dump, field PAYLOAD: the symbolic link has no target`,
		rootLine + "/a 3 100644 1 0 0 0 0.0 - ab -\n":                                                              `line 2 of the dump, field CONTENT: the inline content has 2 bytes, the size is 3`,
		rootLine + "/a 3 10644 1 0 0 0 0.0 - abc -\n":                                                              `line 2 of the dump, field CONTENT: only a regular file has content`,
		rootLine + "/a 3 100644 1 0 0 0 0.0 - - ab\n":                                                              `line 2 of the dump, field DIGEST: digest "ab" has 2 characters, want 64`,
		rootLine + "/a 18446744073709551615 100644 1 0 0 0 0.0 - - -\n":                                            `line 2 of the dump, field SIZE: size 18446744073709551615 is more than an image can say of a file`,
		rootLine + "/a 3 100644 1 0 0 0 0.0 - - - x\n":                                                             `line 2 of the dump, field XATTRS: "x" has no equals sign`,
		rootLine + "/a 3 100644 1 0 0 0 0.0 - - - x=1 x=2\n":                                                       `line 2 of the dump, field XATTRS: the extended attribute "x" is there twice`,
		rootLine + "/a 0 100644 1 0 0 0 0.0 - - -\n/b 0 100644 1 0 0 0 0.0 - - -\n/a 0 100644 1 0 0 0 0.0 - - -\n": `line 4 of the dump, field PATH: "/a" is there twice`,
		rootLine + "/a 0 @100644 1 0 0 0 0.0 - - -\n":                                                              `line 2 of the dump, field PAYLOAD: the hard link has no target`,
		rootLine + "/a 0 @100644 1 0 0 0 0.0 /b - -\n":                                                             `line 2 of the dump, field PAYLOAD: no line has the hard link's target "/b"`,
		rootLine + "/a 0 @100644 1 0 0 0 0.0 / - -\n":                                                              `line 2 of the dump, field PAYLOAD: the hard link's target "/" is a directory`,
		rootLine + "/a 0 @100644 1 0 0 0 0.0 /b - -\n/b 0 @100644 1 0 0 0 0.0 /a - -\n":                            `line 2 of the dump, field PAYLOAD: the hard link's target "/b" leads in a circle`,
		rootLine + "/a\x00b 0 100644 1 0 0 0 0.0 - - -\n":                                                          `line 2 of the dump: there is a zero byte at position 2`,
		rootLine + "/" + strings.Repeat("a", maxLine) + "\n":                                                       `line 2 of the dump: it is longer than 1048576 bytes`,
		rootLine + "/" + strings.Repeat("a", 256) + " 0 100644 1 0 0 0 0.0 - - -\n":                                `line 2 of the dump, field PATH: `,
	} {
		_, err := ParseDump(strings.NewReader(text))
		if err == nil {
			t.Errorf("ParseDump accepts %.100q", text)
			continue
		}
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("ParseDump(%.100q) says\n\t%v\nwant\n\t%s", text, err, want)
		}
		var where *DumpError
		if strings.HasPrefix(want, "line") && (!errors.As(err, &where) || where.Line == 0) {
			t.Errorf("the error for %.100q is no DumpError with a line", text)
		}
	}
}

// TestLinkChains: a hard link may lead to another, which is not yet known.
func TestLinkChains(t *testing.T) {
	tr := parse(t, rootLine+"/a 0 @100644 1 0 0 0 0.0 /b - -\n/b 0 @100644 1 0 0 0 0.0 /c - -\n/c 9 100600 3 1 2 0 5.0 - - -\n")
	c := tr.Lookup("/c")
	for _, name := range []string{"/a", "/b"} {
		if n := tr.Lookup(name); n.HardLink != c || n.Mode != 0 {
			t.Errorf("%s does not lead to /c: %+v", name, n)
		}
	}
	checkRoundTrips(t, tr, Options{})
}

package compose

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Debian's kernels depend on something that makes an initramfs. Ashlar makes
// its own, outside the image, so a package without content stands in for it.
const (
	standInName    = "ashlar-initramfs"
	standInControl = `Package: ashlar-initramfs
Version: 1
Architecture: all
Maintainer: Ashlar
Installed-Size: 0
Provides: linux-initramfs-tool
Section: kernel
Priority: optional
Description: stands in for a tool that makes an initramfs
 The initramfs of an Ashlar image is part of its boot file and is made with it.
`
)

// hasKernel tells whether one of the packages is a Debian kernel.
func hasKernel(packages []string) bool {
	for _, p := range packages {
		if strings.HasPrefix(p, "linux-image-") {
			return true
		}
	}
	return false
}

// writeStandIn writes the package file into dir.
func writeStandIn(dir string) (indexed, error) {
	deb := standInPackage()
	x := indexed{control: standInControl, file: standInName + "_1_all.deb", size: int64(len(deb))}
	sum := sha256.Sum256(deb)
	x.sha256 = hex.EncodeToString(sum[:])
	return x, os.WriteFile(filepath.Join(dir, x.file), deb, 0o644)
}

// standInPackage makes a Debian package, see deb(5): an ar archive of a
// version, a tar with the control file and a tar with no files.
func standInPackage() []byte {
	var control, data bytes.Buffer
	tw := tar.NewWriter(&control)
	h := &tar.Header{Name: "./control", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(standInControl)), ModTime: time.Unix(0, 0)}
	// A bytes.Buffer takes everything: none of these can fail.
	_ = tw.WriteHeader(h)
	_, _ = tw.Write([]byte(standInControl))
	_ = tw.Close()
	_ = tar.NewWriter(&data).Close()

	var deb bytes.Buffer
	deb.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		body []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar", control.Bytes()}, {"data.tar", data.Bytes()}} {
		fmt.Fprintf(&deb, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.body))
		deb.Write(m.body)
		if len(m.body)%2 == 1 {
			deb.WriteByte('\n')
		}
	}
	return deb.Bytes()
}

package sysroot

import (
	"strings"
	"testing"
)

const sealedMounts = `22 1 0:20 / / ro,relatime shared:1 - overlay ashlar ro,lowerdir+=/x,datadir+=/y,redirect_dir=on,metacopy=on,verity=require
23 22 0:21 / /etc rw,relatime - overlay ashlar-etc rw,lowerdir=/usr/etc
24 22 254:2 /ashlar/var /var rw,noatime - ext4 /dev/vda2 rw
25 22 0:5 / /dev rw,nosuid - devtmpfs devtmpfs rw
26 22 0:22 / /tmp rw - tmpfs tmpfs rw
27 24 0:23 / /var/lib/a\040b rw - tmpfs tmpfs rw
`

func TestSealedRootWithNothingOverIt(t *testing.T) {
	mounts, err := ReadMounts(strings.NewReader(sealedMounts))
	if err != nil {
		t.Fatal(err)
	}
	if !Sealed(mounts) {
		t.Error("a read-only overlay with verity=require is not called sealed")
	}
	if got := Covering(mounts); len(got) != 0 {
		t.Errorf("covering: %v", got)
	}
	if mounts[5].Point != "/var/lib/a b" {
		t.Errorf("escaped mount point read as %q", mounts[5].Point)
	}
}

func TestRootIsNotSealedWithoutVerity(t *testing.T) {
	for _, broken := range []string{
		strings.Replace(sealedMounts, "verity=require", "verity=on", 1),
		strings.Replace(strings.Replace(sealedMounts, "/ ro,", "/ rw,", 1), "ashlar ro,", "ashlar rw,", 1),
		strings.Replace(sealedMounts, "- overlay ashlar ro", "- ext4 /dev/vda2 ro", 1),
	} {
		mounts, err := ReadMounts(strings.NewReader(broken))
		if err != nil {
			t.Fatal(err)
		}
		if Sealed(mounts) {
			t.Errorf("called sealed:\n%s", broken)
		}
	}
}

func TestMountsOverTheSealedRootAreNamed(t *testing.T) {
	for _, point := range []string{"/", "/usr", "/usr/bin/sudo", "/bin", "/etc", "/etc/passwd", "/opt2"} {
		mounts, err := ReadMounts(strings.NewReader(sealedMounts + "40 22 0:40 / " + point + " rw - tmpfs evil rw\n"))
		if err != nil {
			t.Fatal(err)
		}
		got := Covering(mounts)
		if len(got) != 1 || got[0].Point != point || got[0].Source != "evil" {
			t.Errorf("a mount over %q: covering says %v", point, got)
		}
	}
}

func TestMountinfoOfAnotherFormIsRefused(t *testing.T) {
	if _, err := ReadMounts(strings.NewReader("22 1 0:20 / /\n")); err == nil {
		t.Error("a line without fields was read")
	}
}

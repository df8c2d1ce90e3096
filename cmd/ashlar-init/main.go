// Ashlar-init is the first process of every boot; see package sysroot.
package main

import "github.com/ashlar-os/ashlar/internal/machine/sysroot"

func main() { sysroot.Main() }

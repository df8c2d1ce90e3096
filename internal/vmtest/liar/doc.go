// Package liar is a drive that has less than it says, for tests: what is written beyond
// its real size lands at its beginning, or is gone. Such drives are made on purpose, to be
// sold as larger ones.
//
// It is served as a network block device (the NBD protocol's newstyle handshake,
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md), which QEMU makes a
// USB stick of. It keeps what is written in memory.
package liar

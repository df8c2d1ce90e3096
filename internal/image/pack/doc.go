// Package pack writes and reads the object pack: one OCI layer that is also a
// store of objects which a machine can read piece by piece.
//
// To podman, skopeo or zstd -d the layer is an ordinary tar+zstd of the image's
// tree. To a machine that updates it is a row of small zstd frames. Laid end to
// end the frames are the blob; decompressed and laid end to end they are the
// tar; and every object is a span of that tar:
//
//	blob  | frame 0 | frame 1  | frame 2 | frame 3 | …
//	tar   | h a h b h c | h DDDD | DDDDDDD | D h e h f | …
//
// An entry is a tar header (h) and a content, and starts a frame of its own or
// shares one with small neighbours. An object that is larger than MaxFrame goes
// on in the frames that follow, so that neither side ever holds more than a few
// frames in memory.
//
// The Index lists the lengths of the frames and the gaps between the objects.
// It names no object: the image does, and lists them in the same order
// (tree.Tree.Objects). It therefore means nothing without its image, cannot make
// two objects overlap, and needs no checksum: the release document binds it.
//
// Nothing read here is believed. Every length is limited before memory is taken
// for it, and what comes out is to be checked against the object's fs-verity
// digest by the store.
//
// The format is in docs/pack.md. The layer follows the OCI image specification,
// https://github.com/opencontainers/image-spec/blob/main/layer.md, and RFC 8878.
//
//	res, err := pack.Write(ctx, blob, t, open, pack.Options{})
//	…
//	ix, err := pack.DecodeIndex(b, t.Objects(), blobSize)
//	for _, rg := range ix.Plan(missing, pack.PlanOptions{}) {
//		err := pack.Extract(fetch(rg.Offset, rg.Length), rg, put)
//	}
package pack

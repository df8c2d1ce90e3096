#!/bin/bash
# peers.sh DIR: the programs to compare with, as Debian packages them, in
# directories of their own: ostree of Debian 13, on whatever this runs; mkcomposefs,
# which Debian 13 does not have, of unstable. They run by their own dynamic linker,
# so that nothing of this machine's libraries takes part.
set -euo pipefail
here=$(dirname "$0")
. "$here/debian.sh"
out=$1

# extract NAME PACKAGE SUITE SOURCE: program NAME of PACKAGE becomes DIR/NAME.sh.
extract() {
	rm -rf "${out:?}/$1"
	mmdebstrap --quiet --mode=root --variant=extract --include="$2" --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
		--extract-hook="APT_CONFIG=\$MMDEBSTRAP_APT_CONFIG apt-cache show --no-all-versions $2 | sed -n 's/^Version: //p' >\"\$1.version\"" \
		"$3" "$out/$1" "$4"
	cat >"$out/$1.sh" <<-END
		#!/bin/sh
		root=\$(dirname "\$(readlink -f "\$0")")/$1
		exec "\$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "\$root/usr/lib/x86_64-linux-gnu" "\$root/usr/bin/$1" "\$@"
	END
	chmod 755 "$out/$1.sh"
}

mkdir -p "$out"
extract ostree ostree trixie "$MAIN"
extract mkcomposefs composefs sid "$UNSTABLE"

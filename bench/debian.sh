# Sourced: where Debian's archives are, as apt on this machine knows them.
# shellcheck shell=bash
export LC_ALL=C
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# archive NAME: the URI of the archive whose last component is NAME.
archive() {
	local uri
	uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sed 's,/*$,,' | grep -m1 -- "/$1\$" || true)
	echo "${uri:-http://deb.debian.org/$1}"
}

MAIN="deb [signed-by=$KEYRING] $(archive debian) trixie main"
UPDATES="deb [signed-by=$KEYRING] $(archive debian) trixie-updates main"
SECURITY="deb [signed-by=$KEYRING] $(archive debian-security) trixie-security main"
UNSTABLE="deb [signed-by=$KEYRING] $(archive debian) sid main"

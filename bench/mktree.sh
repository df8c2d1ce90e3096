#!/bin/bash
# mktree.sh v1|v2 DIR: a server's root file system from Debian 13's packages.
#
# Debian's archive keeps one version of most packages, so that two versions of a
# system cannot simply be asked for. v2 is Debian 13 as it is today. v1 is older in
# two ways that the archives still offer: its kernel is the oldest that main has, and
# whatever the security archive holds in an older version comes from there.
# DIR.packages lists what became of it.
set -euo pipefail
here=$(dirname "$0")
. "$here/debian.sh"
version=$1 out=$2

# What a server of today runs, without what only desktops need.
packages=systemd-sysv,systemd-boot,systemd-boot-efi,systemd-resolved,systemd-timesyncd,systemd-container,udev,dbus,dbus-broker
packages+=,libpam-systemd,polkitd,kmod,cryptsetup,tpm2-tools,efibootmgr,btrfs-progs,e2fsprogs,dosfstools,xfsprogs
packages+=,podman,crun,netavark,aardvark-dns,passt,fuse-overlayfs,uidmap,openssh-server,network-manager,nftables
packages+=,iproute2,iputils-ping,ca-certificates,curl,rsync,openssl,gnupg,sudo,less,vim-tiny,file,lsof,strace
packages+=,tcpdump,git,jq,python3,man-db,bash-completion,locales,tzdata,zstd

# kernels SOURCE…: the names of the kernels that these archives have, oldest first.
kernels() {
	local apt
	apt=$(mktemp -d)
	mkdir -p "$apt"/{etc/apt/{apt.conf.d,preferences.d,sources.list.d,trusted.gpg.d},var/lib/{apt/lists/partial,dpkg},var/cache/apt/archives/partial}
	: >"$apt/var/lib/dpkg/status"
	printf '%s\n' "$@" >"$apt/etc/apt/sources.list"
	# _apt, as whom apt fetches, must get in.
	chmod 755 "$apt"
	apt-get -qq -o "Dir=$apt" -o "Dir::State::status=$apt/var/lib/dpkg/status" -o APT::Architecture=amd64 -o APT::Architectures=amd64 update
	apt-cache -o "Dir=$apt" -o "Dir::State::status=$apt/var/lib/dpkg/status" -o APT::Architecture=amd64 pkgnames linux-image- |
		grep -E '^linux-image-[0-9.]+\+deb13-amd64$' | sort -V
	rm -rf "$apt"
}

sources=("$MAIN" "$UPDATES" "$SECURITY")
case $version in
v1)
	kernel=$(kernels "$MAIN" | head -1)
	newest=$(kernels "${sources[@]}" | tail -1)
	if [ "$kernel" = "$newest" ]; then # a point release has just cleared main
		kernel=$(kernels "${sources[@]}" | tail -2 | head -1)
	fi
	[ "$kernel" != "$newest" ] || { echo "the archives have only one kernel, $kernel: v1 and v2 would not differ" >&2; exit 1; }
	preferences='Package: *\nPin: release l=Debian-Security\nPin-Priority: 1001\n'
	;;
v2)
	kernel=linux-image-amd64
	preferences=
	;;
*)
	echo "usage: $0 v1|v2 DIR" >&2
	exit 2
	;;
esac

rm -rf "$out"
mmdebstrap --quiet --mode=root --variant=apt --include="$packages,$kernel" \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
	--setup-hook="printf '$preferences' >\"\$1/etc/apt/preferences.d/bench\"" \
	trixie "$out" "${sources[@]}"
dpkg-query --admindir="$out/var/lib/dpkg" -W -f '${Package} ${Version}\n' >"$out.packages"

# What no image has: caches, logs, what is made anew on each machine, what the
# bench brought along; and device nodes and sockets, which ostree refuses.
cd "$out"
rm -rf boot/initrd.img* initrd.img* run/* tmp/* var/cache/* var/log/* var/tmp/* var/lib/apt/lists var/lib/apt/extended_states \
	var/lib/dpkg/*-old var/lib/dbus/machine-id var/lib/systemd/random-seed boot/loader/random-seed etc/ssh/ssh_host_* \
	etc/apt/preferences.d/bench etc/apt/sources.list etc/apt/sources.list.d/* etc/resolv.conf etc/hostname
: >etc/machine-id
find . \( -type b -o -type c -o -type p -o -type s \) -delete
find . -exec touch -h -d @1 {} +

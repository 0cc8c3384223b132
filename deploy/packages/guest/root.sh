#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a Debian with systemd for the guest, and a kernel to boot it: DIRECTORY/root.cpio and vmlinuz. As root.
#   root.sh DIRECTORY
set -euo pipefail
out=$1
packages=systemd,systemd-sysv,udev,dbus,man-db,bash-completion,bpftool,iproute2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mmdebstrap --quiet --variant=apt --include=$packages --aptopt='APT::Install-Recommends "false"' bookworm "$work/root.tar"
mkdir "$work/root" "$work/kernel"
tar -C "$work/root" -xf "$work/root.tar"
rm "$work/root.tar"
(cd "$work/root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$work/root.cpio"
name=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
(cd "$work" && apt-get -q -o APT::Sandbox::User= download "$name" && dpkg-deb -x "$name"_*.deb kernel)
mkdir -p "$out"
cp "$work"/kernel/boot/vmlinuz-* "$out/vmlinuz"
mv "$work/root.cpio" "$out/root.cpio" # last: with it, all is there

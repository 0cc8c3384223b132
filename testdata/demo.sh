#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What `make demo` watches: packs a small release, looks where it should not, and
# tries to upload. Only tools that every Linux system has.
set -u

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

mkdir src
printf 'hello\n' >src/hello.txt
printf 'name=demo\nversion=1\n' >src/release.conf
grep -q version src/release.conf
cat /etc/hostname >src/built-on
tar -cf release.tar src
gzip release.tar
sha256sum release.tar.gz >release.sha256

# Nobody may write this file, root included: the kernel answers "permission denied".
(: >/sys/kernel/uevent_seqnum) 2>/dev/null

# A probe of things that are not there.
cat "${HOME:-/root}/.aws/credentials" 2>/dev/null

# The discard port of this machine, where hardly anybody listens: "connection refused".
bash -c ': >/dev/tcp/127.0.0.1/9' 2>/dev/null || echo "upload failed, the release stays here: $(cat release.sha256)"

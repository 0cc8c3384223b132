#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# Process 1 of a guest. Lines that begin with the token, which the host draws for
# each boot and passes on the kernel's command line, are for the host; a test cannot know it.

export PATH=/bin HOME=/root TMPDIR=/tmp TERM=dumb LANG=C
/bin/busybox --install -s /bin

# The kernel's first root cannot be changed by pivot_root, which containers want: go on in a bind mount of it.
if [ -z "$MOVED" ]; then
	mount --bind / /mnt
	cd /mnt
	mount --move . /
	MOVED=1 exec chroot . /init
fi
unset MOVED

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
ln -s /proc/self/fd /dev/fd # TOMOYO, which 5.10 has on, refuses a program by descriptor without it
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
hostname guest

token=$(sed -n 's/.*kerneltest=\([0-9a-f]*\).*/\1/p' /proc/cmdline)
say() { echo "$token $*"; }

say booted "$(uname -r)"
while read -r module; do
	insmod "$module" || say fault "cannot load $module"
done </etc/kerneltest/modules

. /etc/kerneltest/env
export CI=true SHEETBEND_GUEST=1
while read -r package; do
	say begin "$package"
	cd "/src/$package"
	./package.test -test.v -test.run="$TEST_RUN" -test.timeout="$TEST_TIMEOUT" </dev/null 2>&1
	status=$?
	say end "$package" "$status"
done </etc/kerneltest/packages
say done
sync
poweroff -f

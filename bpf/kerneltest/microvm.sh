#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# Process 1 of a microVM with the sensor in it: it watches one scripted agent, and writes its spans to the
# second serial line. Of the console, what begins with the token is for the host.

export PATH=/bin HOME=/root TMPDIR=/tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
hostname microvm
stty -F /dev/ttyS1 raw -echo

token=$(sed -n 's/.*kerneltest=\([0-9a-f]*\).*/\1/p' /proc/cmdline)
say() { echo "$token $*"; }
say booted "$(uname -r)"
say begin sensor

mkdir -p /sys/fs/cgroup/agents/one /tmp/work
sheetbend sensor --config /etc/sheetbend.yaml 2>/run/log &
sensor=$!
status=1
while kill -0 $sensor 2>/dev/null && ! grep -q msg=watching /run/log; do sleep 0.1; done
if kill -0 $sensor 2>/dev/null; then
	(cd /tmp/work && echo 0 >/sys/fs/cgroup/agents/one/cgroup.procs && exec sh /etc/agent.sh)
	kill -TERM $sensor
	wait $sensor
	status=$?
fi
cat /run/log
say end sensor $status
say done
poweroff -f

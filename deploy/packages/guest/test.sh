#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a package does on a Debian with systemd, in the guest: it ends with a line of the token, "passed" or "FAILED".
token=$(sed -n 's/.*packages=\([0-9a-f]*\).*/\1/p' /proc/cmdline)
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
say() { echo "$token $*"; }
fail() {
	say "FAILED: $*"
	systemctl --no-pager -l status sheetbend 2>&1 | head -n 30
	journalctl --no-pager -o cat -u sheetbend -n 30
	exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
set -E
has() { grep -qF -- "$2" <<<"$1" || fail "no \"$2\" in: $1"; }
hasnt() { ! grep -qF -- "$2" <<<"$1" || fail "\"$2\" in: $1"; }
until_true() { # WHAT COMMAND…: polls, for what another process does
	local what=$1 end=$((SECONDS + 120))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || fail "$what: not within two minutes"
		sleep 0.1
	done
}
old=/test/old.deb new=/test/new.deb broken=/test/broken.deb
useradd -m -s /bin/bash alice
useradd -m -s /bin/bash bob
as() { local user=$1; shift; runuser -u "$user" -- "$@"; }

# A shell by the name of a known agent, that starts a command as that does.
mkdir -p /opt/agent
cp /bin/bash /opt/agent/codex
agent() { # USER FILE
	as "$1" bash -c "cd && /opt/agent/codex -c 'CODEX_THREAD_ID=s-$2 CODEX_TOOL_CALL_ID=call_$2 bash -c \"cat /etc/hostname >$2; :\"; :'"
}
tells() { as "$1" sheetbend story "s-$2" 2>&1 | grep -q "created $2"; }
pins() { [[ -e /sys/fs/bpf/sheetbend ]]; }

installed() { # what holds whenever it is installed
	[[ $(systemctl is-enabled sheetbend) = enabled ]]
	[[ $(systemctl is-active sheetbend) = active ]]
	pins
	(($(bpf_programs) > before))
	[[ $(stat -c %a /run/sheetbend) = 755 && $(stat -c %a /var/lib/sheetbend) = 700 ]]
	[[ -S /run/sheetbend/sheetbend.sock ]]
	# Nothing is sent: it has no socket of IP.
	local pid
	pid=$(systemctl show -p MainPID --value sheetbend)
	! cat /proc/net/{tcp,tcp6,udp,udp6,raw} | grep -wf <(ls -l "/proc/$pid/fd" | sed -n 's/.*socket:\[\(.*\)\]$/\1/p') || fail "a socket of IP"
	agent alice "f-$1"
	until_true "alice's story of f-$1" tells alice "f-$1"
	hasnt "$(as bob sheetbend sessions 2>&1)" "f-$1"
	has "$(sheetbend sessions 2>&1)" codex
}
gone() {
	[[ ! -e /usr/bin/sheetbend && ! -e /run/sheetbend && ! -e /sys/fs/bpf/sheetbend ]]
	[[ -z $(find /sys/fs/cgroup -name '*sheetbend*') ]]
	! systemctl is-active --quiet sheetbend || fail "it runs"
	! cat /proc/[0-9]*/comm 2>/dev/null | grep -q sheetbend || fail "a process is left"
	[[ $(bpf_programs) = "$before" ]] || fail "BPF programs: $before before, $(bpf_programs) now"
}
# systemd has programs of its own, for devices and addresses of units.
bpf_programs() { bpftool prog list | grep -cE '^[0-9]+: (tracing|raw_tracepoint|tracepoint|perf_event|cgroup_sock|sock_ops|lsm)' || true; }
before=$(bpf_programs)
hooks() { # the settings of alice's agent, whose hook is run as her agent does
	as alice bash -c 'cd && mkdir -p .claude && sheetbend hook install claude-code --yes --agent-version 2.1.197' >/dev/null
	command=$(sed -n 's/.*"command": "\(.*\)",*/\1/p' /home/alice/.claude/settings.json | head -n 1)
	[[ -n $command ]]
}
silent() {
	local shell out
	for shell in sh bash dash; do
		out=$(as alice $shell -c "$command" </dev/null 2>&1) || fail "$shell: the hook fails"
		[[ -z $out ]] || fail "$shell: the hook says $out"
	done
}

for round in 1 2; do
	say "round $round: install"
	out=$(apt-get install -y "$old" 2>&1) || fail "$out"
	echo "$out" | grep -A6 '^sheetbend:' || true
	has "$out" "ALL USERS of this host"
	has "$out" "nothing is sent anywhere"
	installed "old-$round"
	hooks
	silent
	doctor=$(sheetbend doctor --config /etc/sheetbend/sheetbend.yaml) || fail "$doctor"
	man -l /usr/share/man/man1/sheetbend-run.1.gz >/dev/null
	man sheetbend 2>/dev/null | grep -q 'tell what AI agents do' || fail "man sheetbend"
	has "$(bash -ic '. /usr/share/bash-completion/bash_completion; _completion_loader sheetbend; complete -p sheetbend' 2>&1)" sheetbend

	say "round $round: upgrade"
	sed -i 's/^  max_age: .*/  max_age: 48h/' /etc/sheetbend/sheetbend.yaml
	agent alice "while-$round" &
	out=$(apt-get install -y "$new" 2>&1) || fail "$out"
	wait
	has "$out" "goes on as version v0.0.2"
	grep -q 48h /etc/sheetbend/sheetbend.yaml
	has "$(journalctl -o cat -u sheetbend -n 40)" 'resuming the hooks'
	until_true "what was done during the upgrade" tells alice "while-$round"
	installed "new-$round"

	say "round $round: switched off, it stays off in an upgrade"
	systemctl disable --now sheetbend 2>/dev/null
	out=$(apt-get install -y --reinstall "$new" 2>&1) || fail "$out"
	[[ $(systemctl is-active sheetbend) != active ]] || fail "it was started: $out"
	has "$out" "switched off"
	systemctl enable --now sheetbend 2>/dev/null

	say "round $round: remove"
	out=$(apt-get remove -y sheetbend 2>&1) || fail "$out"
	gone
	silent
	[[ -n $(ls /var/lib/sheetbend/recordings) ]]
	grep -q 48h /etc/sheetbend/sheetbend.yaml

	say "round $round: install again, and what was recorded is still there"
	out=$(apt-get install -y "$new" 2>&1) || fail "$out"
	has "$out" "ALL USERS of this host"
	has "$(as alice sheetbend sessions 2>&1)" codex
	installed "again-$round"

	say "round $round: purge"
	out=$(apt-get purge -y sheetbend 2>&1) || fail "$out"
	gone
	silent
	[[ ! -e /var/lib/sheetbend && ! -e /etc/sheetbend ]]
	[[ -z $(find / -xdev -name '*sheetbend*' -not -path '/test/*' -not -path '/proc/*' -not -path '/home/*' -not -path '/var/log/*' -not -path '/var/cache/*') ]] ||
		fail "left: $(find / -xdev -name '*sheetbend*' -not -path '/test/*' -not -path '/proc/*')"
done

say "a full disk"
apt-get install -y "$old" >/dev/null 2>&1
mkdir /tmp/bin
cp -a /usr/bin/. /tmp/bin
size=$(du -sk /tmp/bin | cut -f1)
mount -t tmpfs -o size=$((size + 4096))k tmpfs /usr/bin
/tmp/bin/cp -a /tmp/bin/. /usr/bin/
! out=$(dpkg -i "$new" 2>&1) || fail "it was installed: $out"
has "$out" "No space left on device"
[[ $(dpkg-query -W -f '${Status} ${Version}' sheetbend) = "install ok installed 0.0.1" ]] || fail "$(dpkg-query -W -f '${Status} ${Version}' sheetbend)"
[[ $(systemctl is-active sheetbend) = active ]]
! compgen -G "/usr/bin/*.dpkg-*" || fail "left by dpkg"
umount -l /usr/bin
dpkg -i "$new" >/dev/null 2>&1 || fail "once there is room"
installed "room"

say "a half upgrade"
dpkg --unpack "$old" >/dev/null 2>&1
[[ $(systemctl is-active sheetbend) = active ]]
out=$(dpkg --configure -a 2>&1) || fail "$out"
has "$out" "goes on as version v0.0.1"
installed half

say "a package that is cut off"
! out=$(dpkg -i "$broken" 2>&1) || fail "it was installed"
[[ $(dpkg-query -W -f '${Status}' sheetbend) = "install ok installed" ]]
installed broken

say "a configuration that does not work"
echo 'sandbxes: []' >>/etc/sheetbend/sheetbend.yaml
out=$(dpkg -i "$new" 2>&1) || fail "$out"
has "$out" "the sensor does not run"
has "$out" 'did you mean "sandboxes"?'
out=$(apt-get remove -y sheetbend 2>&1) || fail "$out"
gone
out=$(apt-get purge -y sheetbend 2>&1) || fail "$out"

say "a host that cannot run it"
mkdir -p /run/systemd/system/sheetbend.service.d
printf '[Service]\nCapabilityBoundingSet=\nCapabilityBoundingSet=CAP_CHOWN\n' >/run/systemd/system/sheetbend.service.d/no.conf
out=$(apt-get install -y "$new" 2>&1) || fail "$out"
echo "$out" | grep -A12 '^sheetbend:'
has "$out" "the sensor does not run"
out=$(apt-get purge -y sheetbend 2>&1) || fail "$out"
gone
say passed

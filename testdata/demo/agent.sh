#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The agent of `make demo`, in the directory that setup.sh has made: it is to find out why a test of a small shop fails,
# and goes on to do more. It works as real agents do: each tool call is a shell of its own, named in its environment.
# Only tools that every Linux system has.
set -eu

HOME=$(cd .. && pwd)
export HOME

n=0
call() { # call TOOL COMMAND: what a tool call of an agent is
	n=$((n + 1))
	DEMO_CALL=call_$n DEMO_TOOL=$1 DEMO_SESSION=demo setsid -w -- sh -c "$2" </dev/null || true
}

call shell 'grep -rn TODO .'
call shell 'sh test.sh'
call shell "sed -i 's/price + 2/price + 3/' cart.sh && sh test.sh"
call shell 'rm -r old && mv CHANGES CHANGELOG.md'
call shell 'tar -czf release.tar.gz cart.sh CHANGELOG.md && sha256sum release.tar.gz >release.sha256'
call shell 'head -2 ~/.aws/credentials'
call shell 'bash -c "cat release.tar.gz >/dev/tcp/127.0.0.1/9"'
call shell 'echo "alias ls=ls" >>~/.bashrc'
call shell 'echo x >/sys/kernel/uevent_seqnum'
call shell '(sleep 3 >/dev/null 2>&1 &)'

// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"path"
	"strings"
)

// launchers only start what they are told to: the command that a person gave is what they start. With words, only as
// these subcommands.
var launchers = map[string][]string{
	"env": nil, "nice": nil, "nohup": nil, "ionice": nil, "stdbuf": nil, "sudo": nil, "doas": nil, "su": nil,
	"timeout": nil, "time": nil, "setpriv": nil, "runuser": nil,
	"npx": nil, "npx-cli.js": nil, "bunx": nil, "uvx": nil,
	"npm": {"exec", "x"}, "npm-cli.js": {"exec", "x"}, "pnpm": {"dlx", "exec"}, "pnpm.cjs": {"dlx", "exec"},
	"yarn": {"dlx", "exec"}, "yarn.js": {"dlx", "exec"}, "bun": {"x"}, "uv": {"run", "tool"}, "pipx": {"run"},
}

// nobodys are programs that start shells in kernel sessions of their own, or whose children may, and are no agents:
// builders, test runners, terminals, schedulers. A "*" at the end stands for any end.
var nobodys = []string{
	"make", "gmake", "ninja", "cmake", "meson", "bazel*", "gradle*", "mvn*", "java", "cargo*", "go", "rake", "just", "task", "perl*", "ruby*",
	"npm*", "pnpm*", "yarn*", "bun", "uv", "pip*", "poetry*", "tox*", "nox*", "pytest*", "py.test*", "jest*", "vitest*", "mocha*", "gulp*",
	"grunt*", "turbo*", "nx*", "lerna*", "celery*", "supervisord*", "honcho*", "foreman*", "ansible*",
	"tmux*", "screen*", "zellij*", "dtach", "abduco", "script", "expect*", "dbus-run-session", "xvfb-run", "tini*", "dumb-init",
	"parallel", "xargs", "find", "watch", "entr", "flock", "setsid", "unshare", "nsenter", "bwrap", "firejail", "strace", "ltrace", "gdb",
	"cron*", "crond*", "anacron", "atd", "at", "batch", "systemd*", "sshd*", "ssh", "git*", "vi", "vim*", "nvim", "emacs*", "less",
	"docker*", "podman*", "containerd*", "runc", "crun", "conmon*", "qemu*",
}

// Unknown says what a program that a person gave, or that such a one launched, may be. As an agent that no dialect knows
// it has a name, of at most 64 bytes: its script's or its file's. If it only launches, what it starts is what the person
// gave; a shell is never the agent.
func Unknown(p Program) (name string, launches bool) {
	file := ProgramName(p.Executable)
	argv := strings.SplitN(p.Args, "\x00", 8)
	if shells[file] || file == "busybox" {
		return "", true
	}
	name, at := file, 0
	if p.Interprets() {
		var script string
		if script, at = scriptOf(file, p.Args); script != "" {
			name = path.Base(script)
		}
		for n, arg := range argv[:len(argv)-1] {
			if arg == "-m" && script == "" { // of python: a module
				name, at = argv[n+1], n+1
				break
			}
		}
	}
	for _, called := range []string{name, file} {
		words, known := launchers[called]
		if !known {
			continue
		}
		if words == nil {
			return "", true
		}
		for _, word := range words {
			if len(argv) > at+1 && argv[at+1] == word {
				return "", true
			}
		}
	}
	for _, pattern := range nobodys {
		if matches(pattern, name) {
			return "", false
		}
	}
	if name == file && p.Interprets() { // code in its arguments, or read from a pipe
		return "", false
	}
	if name, _, _ = strings.Cut(name, "\x00"); len(name) > maxUnknownName {
		name = name[:maxUnknownName]
	}
	return strings.ToValidUTF8(name, "\uFFFD"), false
}

const maxUnknownName = 64

// UnknownDialect is what is taken for the way of an agent that no dialect knows: each command of a call is a shell that
// leads a kernel session and runs a text.
func UnknownDialect(name string) *Dialect {
	return &Dialect{
		Name: name,
		Env:  Env{Leaders: true},
		Note: name + " is no agent that Sheetbend knows; a shell that it starts in a kernel session of its own was taken for a" +
			" tool call. To name its calls, describe it in the configuration: docs/agents.md, \"An agent of your own\"",
	}
}

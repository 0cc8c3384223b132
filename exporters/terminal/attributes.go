// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"cmp"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
)

// Bounds of what is kept for a row. What is cut here would not fit a terminal either.
const (
	maxCommand = 512  // bytes of a command line
	maxPath    = 1024 // bytes of a path
	maxWord    = 64   // bytes of a name: errno, session, agent
)

// short is a short text of a span, safe to print.
func short(a span.Attrs, key string) string { return escape(span.Clip(a.Text(key), maxWord)) }

// command is how a process is called in a row: its name as a user would type it, and its arguments. A name
// that is not the executable's is the process's own choice, so the executable stands behind it.
func command(a span.Attrs) (name, args string) {
	name = a.Text(span.KeyExecutableName)
	argv := a.List(span.KeyCommandArgs)
	if len(argv) == 0 {
		return escape(span.Clip(name, maxPath)), ""
	}
	zero := strings.TrimPrefix(argv[0], "-") // login shells
	if i := strings.LastIndexByte(zero, '/'); i >= 0 {
		zero = zero[i+1:]
	}
	switch {
	case zero == "" || zero == name || strings.HasPrefix(name, zero) && isVersion(name[len(zero):]):
	case name == "":
		name = zero
	default:
		name = span.Clip(zero, maxPath) + " (" + span.Clip(name, maxPath) + ")"
	}
	var b strings.Builder
	for i, arg := range argv[1:] {
		if b.Len() > maxCommand {
			b.WriteString(" …")
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(Quote(span.Clip(arg, maxCommand)))
	}
	return escape(name), b.String()
}

// isVersion is true of what python3.13 has behind python3, and of nothing that makes it another name.
func isVersion(s string) bool { return strings.Trim(s, "0123456789.-") == "" }

// peer is the far end of a connection.
func peer(a span.Attrs) string {
	transport := span.Clip(a.Text(span.KeyTransport), maxWord)
	address := a.Text(span.KeyPeerAddress)
	if address == "" {
		address = a.Text(span.KeyPeerRequested)
	}
	address = clipPath(address)
	if port, ok := a.Int(span.KeyPeerPort); ok && transport != "unix" {
		address = net.JoinHostPort(address, strconv.FormatInt(port, 10))
	}
	if host := a.Text("server.address"); host != "" && host != a.Text(span.KeyPeerAddress) {
		address += " " + span.Clip(host, maxPath)
	}
	if transport == "" && address == "" {
		return "?"
	}
	return strings.TrimSpace(transport + " " + address)
}

// socket is what kind of a socket was made.
func socket(a span.Attrs) string {
	var words []string
	for _, key := range []string{span.KeySocketFamily, span.KeySocketType, span.KeySocketProtocol} {
		if text := short(a, key); text != "" {
			words = append(words, text)
		}
	}
	return strings.Join(words, " ")
}

func namespaces(a span.Attrs) string {
	types := a.List(span.KeyNamespaceTypes)
	if types == nil {
		return "?"
	}
	return escape(span.Clip(strings.Join(types, ","), maxPath))
}

// changeVerbs fit the column of verbs.
var changeVerbs = map[string]string{
	"rename": "renamed", "exchange": "swapped", "unlink": "deleted", "rmdir": "rmdir", "mkdir": "mkdir", "mknod": "mknod",
	"link": "linked", "symlink": "symlink", "truncate": "truncate", "chmod": "chmod", "chown": "chown",
	"setxattr": "setxattr", "removexattr": "rmxattr", "utimes": "touched",
	"mount": "mount", "umount": "umount", "move_mount": "mvmount", "pivot_root": "pivotroot", "chroot": "chroot",
}

// place is what a path means another thing after: where something was mounted, and what.
func place(a span.Attrs) string {
	text := escape(clipPath(a.Text(span.KeyFilePath)))
	source := cmp.Or(a.Text(span.KeyMountSource), a.Text(span.KeyFileOldPath))
	if source != "" {
		text = escape(clipPath(source)) + " -> " + text
	}
	if kind := short(a, span.KeyMountType); kind != "" && kind != source {
		text = kind + " " + text
	}
	return text
}

// accessVerbs fit the column of verbs.
var accessVerbs = map[string]string{
	"ptrace_attach": "ptrace", "ptrace_seize": "ptrace", "process_vm_readv": "peek", "process_vm_writev": "poke",
	"pidfd_getfd": "getfd", "proc": "peek",
}

// reached is the process that was reached into.
func reached(a span.Attrs) string {
	pid, ok := a.Int(span.KeyAccessPID)
	if !ok {
		return "?"
	}
	text := "(" + strconv.FormatInt(pid, 10) + ")"
	if exe := a.Text(span.KeyAccessExe); exe != "" {
		text = escape(span.Clip(base(exe), maxPath)) + " " + text
	}
	if a.Is(span.KeyAccessOutside) {
		text += " outside"
	}
	return text
}

// signal gives the name of the signal that ended a process, however it is written.
func signal(a span.Attrs) string {
	if number, _ := a.Int(span.KeyExitSignal); number != 0 {
		return "signal " + strconv.FormatInt(number, 10)
	}
	return short(a, span.KeyExitSignal)
}

func lost(a span.Attrs) string {
	n, _ := a.Int(span.KeyLost)
	kind := strings.TrimSpace(span.Clip(a.Text(span.KeyLostKind), maxWord) + " " + plural(n, "record"))
	text := fmt.Sprintf("LOST: %d %s", n, kind)
	if cause := a.Text(span.KeyLostCause); cause != "" {
		text += " (" + strings.ReplaceAll(span.Clip(cause, maxWord), "_", " ") + ")"
	}
	return escape(text)
}

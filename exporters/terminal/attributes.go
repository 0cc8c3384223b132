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
func short(a span.Attrs, key string) string { return Escape(span.Clip(a.Text(key), maxWord)) }

// command is how a process is called in a row: its name as a user would type it, and its arguments. A name
// that is not the executable's is the process's own choice, so the executable stands behind it.
func command(a span.Attrs) (name, args string) {
	name = a.Text(span.KeyExecutableName)
	argv := a.List(span.KeyCommandArgs)
	if len(argv) == 0 {
		return Escape(span.Clip(name, maxPath)), ""
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
	return Escape(name), b.String()
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
	if host := a.Text(span.KeyServerAddress); host != "" && host != a.Text(span.KeyPeerAddress) {
		address += " " + span.Clip(host, maxPath)
	}
	if transport == "" && address == "" {
		return "?"
	}
	return strings.TrimSpace(transport + " " + address)
}

// lookedUp is which name was asked for, and what it stands for.
func lookedUp(a span.Attrs) string {
	words := []string{span.Clip(a.Text(span.KeyDNSName), maxPath)}
	if t := a.Text(span.KeyDNSType); t != "" && t != "A" {
		words = append(words, t)
	}
	if answers := a.List(span.KeyDNSAnswers); len(answers) > 0 {
		words = append(words, "→ "+span.Clip(answers[0], maxWord))
	}
	return Escape(strings.TrimSpace(strings.Join(words, " ")))
}

// local is where a socket listens.
func local(a span.Attrs) string {
	text := clipPath(a.Text(span.KeyLocalAddress))
	if port, ok := a.Int(span.KeyLocalPort); ok {
		text = net.JoinHostPort(text, strconv.FormatInt(port, 10))
	}
	return cmp.Or(Escape(strings.TrimSpace(span.Clip(a.Text(span.KeyTransport), maxWord)+" "+text)), "?")
}

// accepted is who was let in, and where.
func accepted(a span.Attrs) string {
	port, _ := a.Int(span.KeyLocalPort)
	return Escape(peer(a)) + " -> :" + strconv.FormatInt(port, 10)
}

// traffic is how much went over a connection.
func traffic(a span.Attrs) string {
	in, _ := a.Int(span.KeyBytesReceived)
	out, _ := a.Int(span.KeyBytesSent)
	return Size(in) + " in, " + Size(out) + " out"
}

// Size is a number of bytes, with two or three digits.
func Size(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, units := float64(n)/1000, "kMGTPE"
	for f >= 999.5 {
		f, units = f/1000, units[1:]
	}
	precision := 0
	if f < 9.95 {
		precision = 1
	}
	return strconv.FormatFloat(f, 'f', precision, 64) + " " + units[:1] + "B"
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
	return Escape(span.Clip(strings.Join(types, ","), maxPath))
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
	text := Escape(clipPath(a.Text(span.KeyFilePath)))
	source := cmp.Or(a.Text(span.KeyMountSource), a.Text(span.KeyFileOldPath))
	if source != "" {
		text = Escape(clipPath(source)) + " -> " + text
	}
	if kind := short(a, span.KeyMountType); kind != "" && kind != source {
		text = kind + " " + text
	}
	return text
}

// accessVerbs fit the column of verbs.
var accessVerbs = map[string]string{
	"ptrace_attach": "ptrace", "ptrace_seize": "ptrace", "process_vm_readv": "peek", "process_vm_writev": "poke",
	"pidfd_getfd": "getfd", "proc": "peek", "signal": "signal",
}

// reached is the process that was reached into.
func reached(a span.Attrs) string {
	pid, ok := a.Int(span.KeyAccessPID)
	if !ok {
		return "?"
	}
	text := "(" + strconv.FormatInt(pid, 10) + ")"
	if exe := a.Text(span.KeyAccessExe); exe != "" {
		text = Escape(span.Clip(base(exe), maxPath)) + " " + text
	}
	if a.Is(span.KeyAccessOutside) {
		text += " outside"
	}
	if signal := short(a, span.KeyAccessSignal); signal != "" {
		text = signal + " to " + text
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

// ending is how a process ended.
func ending(a span.Attrs) string {
	name := signal(a)
	switch code, known := a.Int(span.KeyExitCode); {
	case a.Is(span.KeyOOMKilled):
		return "out of memory"
	case name == "" && known:
		return "exit " + strconv.FormatInt(code, 10)
	}
	return name
}

func lost(a span.Attrs) string {
	n, _ := a.Int(span.KeyLost)
	kind := strings.TrimSpace(span.Clip(a.Text(span.KeyLostKind), maxWord) + " " + Plural(n, "record"))
	text := fmt.Sprintf("LOST: %d %s", n, kind)
	if cause := a.Text(span.KeyLostCause); cause != "" {
		text += " (" + strings.ReplaceAll(span.Clip(cause, maxWord), "_", " ") + ")"
	}
	return Escape(text)
}

// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"fmt"
	"net"
	"path"
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

// clipPath keeps the last maxPath bytes.
func clipPath(s string) string {
	if len(s) <= maxPath {
		return s
	}
	from := len(s) - maxPath
	for from < len(s) && s[from]&0xc0 == 0x80 {
		from++
	}
	return "…" + strings.Clone(s[from:])
}

// short is a short text of a span, safe to print.
func short(a span.Attrs, key string) string { return escape(span.Clip(a.Text(key), maxWord)) }

// command is how a process is called in a row: its name as a user would type it, and its arguments. A name
// that is not the executable's is the process's own word, so the executable stands behind it.
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

// isVersion tells python3 that is python3.13 from a name of its own.
func isVersion(s string) bool { return strings.Trim(s, "0123456789.-") == "" }

// Quote writes a text as a shell would read one argument: what is printed beside it begins behind it.
func Quote(s string) string {
	if s == "" {
		return "''"
	}
	if escape(s) != s {
		return "$'" + escapeTo(s, `\'`) + "'"
	}
	if strings.ContainsAny(s, " \t\n\"'`$&|;<>()*?[]{}#~!\\") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}

// relative shortens a path below the working directory of its process.
func relative(cwd, file string) string {
	if cwd == "" || cwd == "/" || !strings.HasPrefix(file, cwd) {
		return file
	}
	switch rest := file[len(cwd):]; {
	case rest == "":
		return "."
	case rest[0] == '/':
		return "." + rest
	}
	return file
}

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

// accessVerb fits the column of verbs.
func accessVerb(operation string) string {
	switch operation {
	case "ptrace_attach", "ptrace_seize":
		return "ptrace"
	case "process_vm_readv":
		return "peek"
	case "process_vm_writev":
		return "poke"
	case "pidfd_getfd":
		return "getfd"
	case "proc":
		return "peek"
	}
	return "access"
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
	kind := strings.TrimSpace(span.Clip(a.Text(span.KeyLostKind), maxWord) + " " + word(n, "record"))
	text := fmt.Sprintf("LOST: %d %s", n, kind)
	if cause := a.Text(span.KeyLostCause); cause != "" {
		text += " (" + strings.ReplaceAll(span.Clip(cause, maxWord), "_", " ") + ")"
	}
	return escape(text)
}

func word(n int64, one string) string {
	switch {
	case n == 1:
		return one
	case strings.HasSuffix(one, "s"):
		return one + "es"
	}
	return one + "s"
}

func count(n int64, one string) string { return fmt.Sprintf("%d %s", n, word(n, one)) }

// duration takes at most eight columns.
func duration(ns uint64) string {
	const (
		us = 1000
		ms = 1000 * us
		s  = 1000 * ms
	)
	switch {
	case ns < ms:
		return fmt.Sprintf("%d µs", ns/us)
	case ns < 10*ms:
		return fmt.Sprintf("%.1f ms", float64(ns)/ms)
	case ns < s:
		return fmt.Sprintf("%d ms", ns/ms)
	case ns < 60*s:
		return fmt.Sprintf("%.2f s", float64(ns/(10*ms))/100)
	case ns < 3600*s:
		return fmt.Sprintf("%dm %02ds", ns/(60*s), ns/s%60)
	case ns < 100*3600*s:
		return fmt.Sprintf("%dh %02dm", ns/(3600*s), ns/(60*s)%60)
	}
	return fmt.Sprintf("%dd %02dh", ns/(24*3600*s), ns/(3600*s)%24)
}

func base(file string) string {
	if file == "" {
		return ""
	}
	return path.Base(file)
}

// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"cmp"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/span"
)

// maxName is how many characters the name of a span for people has at most.
const maxName = 70

// verb names a span by what was done and how that came out: few names.
func verb(s *span.Span) string {
	a := span.Attrs(s.Attrs)
	switch outcome := span.Outcome(a.Text(span.KeyOutcome)); s.Kind {
	case span.Exec, span.Start, span.Exit:
		return strings.TrimSpace(verbs[s.Kind] + " " + oneLine(a.Text(span.KeyExecutableName)))
	case span.Tool, span.ToolStart, span.ToolEnd, span.SessionCall:
		tool := a.Text(span.KeyGenAIToolName)
		if tool == "unknown" {
			tool = ""
		}
		return strings.TrimSpace(verbs[s.Kind] + " " + oneLine(tool))
	case span.ExecRefused:
		return string(outcome) + " exec"
	case span.Open, span.Change:
		switch outcome {
		case span.Missing, span.Refused:
			return string(outcome)
		case span.Failed:
			return "failed " + did(s.Kind, a)
		}
		return did(s.Kind, a)
	case span.Access:
		return a.Text(span.KeyAccessOp)
	case span.Namespace:
		return a.Text(span.KeyNamespaceOp)
	}
	return cmp.Or(verbs[s.Kind], s.Kind.String())
}

// verbs are the names of spans whose kind says what was done.
var verbs = map[span.Kind]string{
	span.Exec: "exec", span.Start: "start", span.Exit: "exit", span.Connect: "connect", span.ConnectStart: "connecting",
	span.Tool: "execute_tool", span.ToolStart: "start tool", span.ToolEnd: "end tool", span.SessionCall: "call",
	span.Telemetry: "telemetry", span.Listen: "listen", span.Accept: "accept", span.Close: "close", span.Socket: "socket",
	span.Lookup: "lookup", span.Escape: "escape", span.Loss: "loss", span.Limit: "limit",
	span.Session: "session", span.SessionEnd: "session end", span.SandboxEnd: "sandbox end",
}

// did is what was done to a file, or tried.
func did(kind span.Kind, a span.Attrs) string {
	if kind == span.Change {
		operation := a.Text(span.KeyFileOperation)
		switch operation {
		case "unlink":
			return "delete"
		case "utimes":
			return "touch"
		}
		return operation
	}
	switch access := a.Text(span.KeyFileAccess); access {
	case "read", "create":
		return access
	case "path_only":
		return "look at"
	}
	return "write"
}

// readable names a span for people: marks, the verb, what it was about. Paths are relative to the working directory of
// the program, if that is known.
func readable(s *span.Span, cwd string) string {
	a := span.Attrs(s.Attrs)
	n := nameOf{cwd: cwd}
	if a.Is(span.KeySensitive) {
		n.mark("sensitive")
	}
	if a.Is(span.KeyOutside) {
		n.mark("outside")
	}
	errno := a.Text(span.KeyErrorType)
	switch s.Kind {
	case span.Exec, span.Start:
		n.end = n.outcome(a)
		n.add(verbs[s.Kind], command(a))
	case span.Exit:
		n.end = n.outcome(a)
		n.add("exit", a.Text(span.KeyExecutableName))
	case span.ExecRefused:
		n.end = errno
		n.add(verb(s))
		n.path(a.Text(span.KeyRequestedExecutable))
	case span.Open, span.Change:
		n.end = errno
		n.file(s, a)
	case span.Connect, span.ConnectStart:
		n.end = errno
		n.add(verbs[s.Kind])
		n.peer(a, a.Text(span.KeyServerAddress), span.KeyPeerAddress, span.KeyPeerPort)
	case span.Accept, span.Close:
		n.add(verbs[s.Kind])
		n.peer(a, "", span.KeyPeerAddress, span.KeyPeerPort)
	case span.Listen:
		n.end = errno
		n.add("listen")
		n.peer(a, "", span.KeyLocalAddress, span.KeyLocalPort)
	case span.Lookup:
		n.end = errno
		n.add("lookup", a.Text(span.KeyDNSName))
	case span.Socket:
		n.end = errno
		n.add("socket", a.Text(span.KeySocketFamily), a.Text(span.KeySocketType))
	case span.Namespace:
		n.end = errno
		n.add(verb(s), strings.Join(a.List(span.KeyNamespaceTypes), ","))
	case span.Access:
		n.end = errno
		n.add(verb(s), a.Text(span.KeyAccessSignal), path.Base(a.Text(span.KeyAccessExe)))
	case span.Escape:
		n.add("escape to", a.Text(span.KeyCgroupTo))
	case span.Limit:
		n.add("limit", a.Text(span.KeyLimit))
	case span.Loss:
		n.add("lost", a.Text(span.KeyLostKind))
	case span.Tool, span.ToolStart, span.ToolEnd:
		n.add(verbs[s.Kind], cmp.Or(a.Text(span.KeyCallTitle), a.Text(span.KeyGenAIToolName)))
	case span.SessionCall:
		if counts := a.List(span.KeyNotableCounts); len(counts) > 0 {
			if event, _, _ := strings.Cut(counts[0], " "); !notable.Ordinary(event) {
				n.mark(event)
			}
		}
		n.add(a.Text(span.KeyCallTitle))
		if n.left() > 3+utf8.RuneCountInString(a.Text(span.KeyCallSummary)) && a.Text(span.KeyCallSummary) != "" {
			n.add("·", a.Text(span.KeyCallSummary))
		}
	case span.Session:
		line := a.Text(span.KeyCommandLine)
		if program, rest, _ := strings.Cut(line, " "); !strings.HasPrefix(program, "'") {
			line = strings.TrimSpace(path.Base(program) + " " + rest)
		}
		if line == "." {
			line = a.Text(span.KeyAgentName)
		}
		n.add("session", line)
	case span.Telemetry:
		n.add("telemetry", a.Text(span.KeyTelemetryKind), a.Text(span.KeyTelemetryWord))
	default:
		n.add(cmp.Or(verbs[s.Kind], s.Kind.String()))
	}
	return n.String()
}

// A nameOf is a name in the making.
type nameOf struct {
	cwd   string
	begin string // the marks, with the blank after
	text  string
	end   string // that survives when the text is cut
}

func (n *nameOf) mark(what string) { n.begin += "[" + what + "] " }

func (n *nameOf) add(words ...string) {
	for _, w := range words {
		if w == "" || w == "." {
			continue
		}
		if n.text != "" {
			n.text += " "
		}
		n.text += w
	}
}

// left is how many characters there is room for.
func (n *nameOf) left() int {
	used := utf8.RuneCountInString(n.begin + n.text)
	if n.end != "" {
		used += 1 + utf8.RuneCountInString(n.end)
	}
	return maxName - used
}

func (n *nameOf) String() string {
	text := n.begin + oneLine(n.text)
	room := maxName
	if n.end != "" {
		room -= 1 + utf8.RuneCountInString(n.end)
	}
	if utf8.RuneCountInString(text) > room {
		text = string([]rune(text)[:room-1]) + "…"
	}
	if n.end != "" {
		text += " " + n.end
	}
	return text
}

// path adds a path as far as there is room: its end is what matters. after are characters that are to follow.
func (n *nameOf) path(p string, after ...string) {
	p = shortPath(p, n.cwd)
	room := n.left() - 1
	for _, s := range after {
		room -= 1 + utf8.RuneCountInString(s)
	}
	if runes := []rune(p); len(runes) > max(room, 8) {
		p = "…" + string(runes[len(runes)-max(room, 8)+1:])
	}
	n.add(p)
	n.add(after...)
}

// shortPath writes a path relative to a directory that it is below, or to somebody's home.
func shortPath(p, cwd string) string {
	if rest, below := strings.CutPrefix(p, strings.TrimSuffix(cwd, "/")+"/"); below && cwd != "" && cwd != "/" {
		return cmp.Or(rest, "./")
	}
	if p == cwd && p != "" && p != "/" {
		return "./"
	}
	if rest, below := strings.CutPrefix(p, "/root/"); below {
		return "~/" + rest
	}
	if rest, below := strings.CutPrefix(p, "/home/"); below {
		if _, rest, below = strings.Cut(rest, "/"); below {
			return "~/" + rest
		}
	}
	return p
}

// file adds what was done to files.
func (n *nameOf) file(s *span.Span, a span.Attrs) {
	v := verb(s)
	switch {
	case s.Kind == span.Change && v == string(span.Refused):
		v += " " + did(s.Kind, a)
	case s.Kind == span.Change && v == string(span.Missing):
		v = "failed " + did(s.Kind, a)
	}
	n.add(v)
	name, other := a.Text(span.KeyFilePath), a.Text(span.KeyFileOldPath)
	count, _ := a.Int(span.KeyCount)
	switch operation := a.Text(span.KeyFileOperation); {
	case a.Is(span.KeyFolded):
		files := "open"
		if s.Kind == span.Change || a.Text(span.KeyFileAccess) == "create" {
			files = "file"
		}
		if count != 1 {
			files += "s"
		}
		n.path(name, fmt.Sprintf("(%d %s)", count, files))
		return
	case operation == "symlink":
		n.path(name, "→", cut(a.Text(span.KeyFileLinkTarget)))
		return
	case operation == "chmod":
		n.add(strings.TrimLeft(a.Text(span.KeyFileMode), "0"))
	case operation == "chown":
		n.add(a.Text(span.KeyFileOwner) + ":" + a.Text(span.KeyFileGroup))
	case operation == "setxattr" || operation == "removexattr":
		n.add(a.Text(span.KeyFileAttribute))
	case operation == "mount":
		n.add(cut(cmp.Or(a.Text(span.KeyMountSource), a.Text(span.KeyMountType))))
	case operation == "pivot_root":
	case other != "" && path.Dir(other) == path.Dir(name) && path.Dir(name) != "/":
		n.path(other, "→", cut(path.Base(name)))
		return
	case other != "":
		n.path(other, "→", cut(shortPath(name, n.cwd)))
		return
	}
	n.path(name)
}

// cut shortens the less important of two names.
func cut(name string) string {
	if runes := []rune(name); len(runes) > maxName/3 {
		return "…" + string(runes[len(runes)-maxName/3+1:])
	}
	return name
}

// peer adds an address: the name, if there is one, and the port.
func (n *nameOf) peer(a span.Attrs, name, addressKey, portKey string) {
	address := cmp.Or(name, a.Text(addressKey))
	if port, known := a.Int(portKey); known {
		if strings.Contains(address, ":") {
			address = "[" + address + "]"
		}
		address += fmt.Sprintf(":%d", port)
	}
	n.add(a.Text(span.KeyTransport))
	n.path(address)
}

// command is how a program was started: its name, and the arguments.
func command(a span.Attrs) string {
	args := a.List(span.KeyCommandArgs)
	name := cmp.Or(a.Text(span.KeyExecutableName), "?")
	if len(args) < 2 {
		return name
	}
	return name + " " + string(appendCommandLine(nil, args[1:]))
}

// outcome is how a program came out, where that was not well.
func (n *nameOf) outcome(a span.Attrs) string {
	if signal := a.Text(span.KeyExitSignal); signal != "" {
		return "→ " + signal
	}
	if code, known := a.Int(span.KeyExitCode); known && code != 0 {
		return fmt.Sprintf("→ exit %d", code)
	}
	return ""
}

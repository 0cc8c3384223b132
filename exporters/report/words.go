// SPDX-License-Identifier: Apache-2.0

package report

import (
	"net"
	"strconv"
	"strings"

	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/span"
)

var changeVerbs = map[string]string{
	"rename": "rename", "exchange": "exchange", "unlink": "delete", "rmdir": "delete", "mkdir": "create", "mknod": "create",
	"link": "link", "symlink": "link", "truncate": "truncate", "chmod": "mode", "chown": "owner",
	"setxattr": "attribute", "removexattr": "attribute", "utimes": "times", "mount": "mount", "umount": "unmount",
	"move_mount": "mount", "pivot_root": "root", "chroot": "root",
}

var accessVerbs = map[string]string{"create": "create", "truncate": "truncate", "write": "write", "read_write": "write"}

// words says what a span tells: what was done, and to what.
func words(s *span.Span, a span.Attrs) (verb, object string) {
	outcome := span.Outcome(a.Text(span.KeyOutcome))
	switch s.Kind {
	case span.Open:
		verb = accessVerbs[a.Text(span.KeyFileAccess)]
		if verb == "" {
			verb = "read"
		}
		return withOutcome(verb, outcome), a.Text(span.KeyFilePath)
	case span.Change:
		if verb = changeVerbs[a.Text(span.KeyFileOperation)]; verb == "" {
			verb = "change"
		}
		object = a.Text(span.KeyFilePath)
		if old := a.Text(span.KeyFileOldPath); old != "" {
			object = old + " → " + object
		} else if to := a.Text(span.KeyFileLinkTarget); to != "" {
			object += " → " + to
		} else if from := a.Text(span.KeyMountSource); from != "" {
			object = from + " → " + object
		}
		return withOutcome(verb, outcome), object
	case span.Connect, span.ConnectStart:
		return "connect", peer(a)
	case span.Listen:
		return "listen", join(a.Text(span.KeyLocalAddress), a, span.KeyLocalPort)
	case span.Accept:
		return "accept", peer(a)
	case span.Close:
		return "closed", peer(a)
	case span.Lookup:
		return "lookup", strings.TrimSpace(a.Text(span.KeyDNSName) + " " + a.Text(span.KeyDNSType))
	case span.Socket:
		return "socket", strings.TrimSpace(a.Text(span.KeySocketFamily) + " " + a.Text(span.KeySocketType) +
			" " + a.Text(span.KeySocketProtocol))
	case span.Namespace:
		return a.Text(span.KeyNamespaceOp), strings.Join(a.List(span.KeyNamespaceTypes), ", ")
	case span.Access:
		verb = a.Text(span.KeyAccessOp)
		if sig := a.Text(span.KeyAccessSignal); sig != "" {
			verb = sig + " to"
		}
		object = a.Text(span.KeyAccessExe)
		if pid, ok := a.Int(span.KeyAccessPID); ok {
			object = strings.TrimSpace(object + " (" + strconv.FormatInt(pid, 10) + ")")
		}
		return verb, object
	case span.Escape:
		return "left its cgroup", a.Text(span.KeyCgroupFrom) + " → " + a.Text(span.KeyCgroupTo)
	case span.ExecRefused:
		return "exec refused", a.Text(span.KeyRequestedExecutable)
	case span.Limit:
		return "limit", a.Text(span.KeyLimit)
	case span.Exit: // of a worker
		return "worker", ending(a)
	case span.Telemetry:
		object = a.Text(span.KeyTelemetryWord)
		if source := a.Text(span.KeyTelemetrySource); source != "" {
			object += " by " + source
		}
		return a.Text(span.KeyTelemetryKind), strings.TrimSpace(object + " " + a.Text(span.KeyTelemetryDetail))
	case span.Loss:
		n, _ := a.Int(span.KeyLost)
		return "lost", strconv.FormatInt(n, 10) + " × " + a.Text(span.KeyLostKind) + ": " + a.Text(span.KeyLostCause)
	}
	return s.Kind.String(), ""
}

func withOutcome(verb string, o span.Outcome) string {
	switch o {
	case span.Refused, span.Missing, span.Failed:
		return string(o) + " " + verb
	}
	return verb
}

// peer is the other side of a connection by name, where there is one, with address.
func peer(a span.Attrs) string {
	text := join(a.Text(span.KeyPeerAddress), a, span.KeyPeerPort)
	if name := a.Text(span.KeyServerAddress); name != "" && name != a.Text(span.KeyPeerAddress) {
		text = join(name, a, span.KeyPeerPort) + " (" + a.Text(span.KeyPeerAddress) + ")"
	}
	return strings.TrimSpace(a.Text(span.KeyTransport) + " " + text)
}

func join(address string, a span.Attrs, port string) string {
	if n, ok := a.Int(port); ok {
		return net.JoinHostPort(address, strconv.FormatInt(n, 10))
	}
	return address
}

// ending says how a program ended; "" when it was replaced by another, or that is not known.
func ending(a span.Attrs) string {
	text := ""
	if code, ok := a.Int(span.KeyExitCode); ok {
		text = "exit " + strconv.FormatInt(code, 10)
	}
	if sig := a.Text(span.KeyExitSignal); sig != "" {
		text = span.Clip(sig, maxName)
	}
	if a.Is(span.KeyOOMKilled) {
		text += ", out of memory"
	}
	return text
}

// common are the flags that any span may have.
func common(s *span.Span, a span.Attrs) (f flags) {
	set := func(is bool, flag flags) {
		if is {
			f |= flag
		}
	}
	set(a.Is(span.KeySensitive), isSecret)
	set(s.Failed, isFailed)
	set(a.Is(span.KeyOutside), isOutside)
	set(a.Is(span.KeyTainted), isTainted)
	set(a.Text(span.KeyAttribution) == "started_by", isStartedBy)
	set(isNotableSpan(s), isNotable)
	return f
}

// flagsOf are those of a line.
func flagsOf(s *span.Span, a span.Attrs) (f flags) {
	switch s.Kind {
	case span.Open, span.Change:
		f |= isFile
	case span.Connect, span.Listen, span.Accept, span.Lookup, span.Socket:
		f |= isHost
	case span.ConnectStart:
		f |= isHost | isPending
	case span.Close:
		f |= isHost | isClose
	case span.Loss:
		f |= isLoss
	case span.Telemetry:
		f |= isDecision
	}
	switch outcome := span.Outcome(a.Text(span.KeyOutcome)); outcome {
	case span.Refused:
		f |= isRefused
	case span.Missing:
		f |= isMissing
	case span.Failed:
		f |= isFailed
	default:
		if s.Kind == span.Change || s.Kind == span.Open && a.Is(span.KeyFileWrite) {
			f |= isChange
		}
	}
	return f
}

func isNotableSpan(s *span.Span) bool {
	_, is := notable.Of(s)
	return is
}

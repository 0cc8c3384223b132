// SPDX-License-Identifier: Apache-2.0

// Package notable says which spans somebody who answers for a host wants to be told of. It goes by what is on the span
// alone, so the story, the report and the security events agree.
package notable

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
)

// Severity is the severity number of an OTLP log record.
type Severity int

// The severities.
const (
	Info  Severity = 9
	Warn  Severity = 13
	Error Severity = 17
)

// String is the severity text of an OTLP log record.
func (s Severity) String() string {
	switch {
	case s >= Error:
		return "ERROR"
	case s >= Warn:
		return "WARN"
	}
	return "INFO"
}

// The names of events. docs/spans.md has what each is, in this order.
const (
	Violated    = "approval.violated"
	Escape      = "escape"
	Secret      = "secret"
	Outside     = "outside"
	Undeclared  = "undeclared"
	Privileges  = "privileges"
	Fileless    = "fileless"
	Unannounced = "unannounced"
	Claim       = "claim"
	Access      = "access"
	Tainted     = "tainted"
	Namespace   = "namespace"
	Mount       = "mount"
	RawSocket   = "socket.raw"
	Listen      = "listen"
	Destination = "destination"
	ExecRefused = "exec.refused"
	OOM         = "oom"
	Limit       = "limit"
	Loss        = "loss"
)

// Kinds is how many names of events there are.
const Kinds = 20

var names = [Kinds]string{
	Violated, Escape, Secret, Outside, Undeclared, Privileges, Fileless, Unannounced, Claim, Access, Tainted, Namespace,
	Mount, RawSocket, Listen, Destination, ExecRefused, OOM, Limit, Loss,
}

// Names are those of all events, the order in which they go where a span is several: it counts as the first.
func Names() []string { return names[:] }

// Ordinary says whether events of a name are INFO, whatever they tell.
func Ordinary(name string) bool {
	switch name {
	case Mount, Listen, Destination, ExecRefused:
		return true
	}
	return false
}

// An Event is what a span tells that is notable.
type Event struct {
	Name     string // one of Names
	Severity Severity
	Sentence string // one line for people, at most 200 bytes of UTF-8, printable
}

// Kind is where its name stands in Names.
func (e Event) Kind() int { return slices.Index(names[:], e.Name) }

// Gravity says what is told first where there is no room for all: what is more severe, and of that what stands before in
// Names.
func (e Event) Gravity() int { return int(e.Severity)*Kinds - e.Kind() }

// Time is when it happened, in ns since the Unix epoch: the begin of its span, but for what its end tells.
func (e Event) Time(s *span.Span) uint64 {
	switch e.Name {
	case OOM, Violated, Tainted:
		return s.End
	}
	return s.Start
}

// maxSentence bounds a sentence, maxPath a path in it and maxWord a name, in bytes.
const (
	maxSentence = 200
	maxPath     = 96
	maxWord     = 32
)

// flags are those attributes of a span that have one value and make it notable.
type flags uint32

const (
	sensitive flags = 1 << iota
	outside
	violated
	tainted
	noticed
	preexisting
	fileless
	privileged
	callRoot
	contradicted
	newDestination
	targetOutside
	oomKilled
	undeclared
)

// flagsOf reads all of them in one go over the attributes: most spans have none.
func flagsOf(attrs []span.Attr) (f flags) {
	for i := range attrs {
		if attrs[i].Kind != span.BoolAttr || attrs[i].Int == 0 {
			if attrs[i].Key == span.KeyDeclared && attrs[i].Str == "undeclared" {
				f |= undeclared
			}
			continue
		}
		switch attrs[i].Key {
		case span.KeySensitive:
			f |= sensitive
		case span.KeyOutside:
			f |= outside
		case span.KeyApprovalViolated:
			f |= violated
		case span.KeyTainted:
			f |= tainted
		case span.KeyNoticed:
			f |= noticed
		case span.KeyPreexisting:
			f |= preexisting
		case span.KeyFileless:
			f |= fileless
		case span.KeyPrivilegedExec:
			f |= privileged
		case span.KeyCallRoot:
			f |= callRoot
		case span.KeyClaimContradicted:
			f |= contradicted
		case span.KeyNewDestination:
			f |= newDestination
		case span.KeyAccessOutside:
			f |= targetOutside
		case span.KeyOOMKilled:
			f |= oomKilled
		}
	}
	return f
}

// Of says whether a span is notable, and what it tells.
func Of(s *span.Span) (Event, bool) {
	if s.StandIn {
		return Event{}, false
	}
	t := teller{span.Attrs(s.Attrs), flagsOf(s.Attrs)}
	var e Event
	switch s.Kind {
	case span.Open, span.Change:
		e = t.file(s.Kind)
	case span.Exec, span.Start, span.Exit:
		e = t.program(s.Kind)
	case span.Connect, span.ConnectStart:
		e = t.connect(s.Kind)
	case span.Listen:
		e = t.listen()
	case span.Socket:
		e = t.socket()
	case span.Escape:
		e = t.escape()
	case span.Namespace:
		e = t.namespace()
	case span.Access:
		e = t.access()
	case span.SessionCall, span.Telemetry:
		e = t.call(s.Kind)
	case span.ExecRefused:
		if t.outcome() == span.Refused && !t.Is(span.KeySearch) {
			what := short(t.Text(span.KeyRequestedExecutable))
			e = Event{ExecRefused, Info, t.who() + " was refused to run " + what + t.why()}
		}
	case span.Limit:
		if s.Failed {
			e = Event{Limit, Warn, "the sandbox hit its limit " + word(t.Text(span.KeyLimit)) + t.times()}
		}
	case span.Loss:
		e = t.loss()
	}
	if e.Name == "" {
		return Event{}, false
	}
	if len(e.Sentence) > maxSentence {
		e.Sentence = span.Clip(e.Sentence, maxSentence-len("…"))
	}
	return e, true
}

// A teller makes the event of one span.
type teller struct {
	span.Attrs
	flags
}

func (t teller) has(f flags) bool { return t.flags&f != 0 }

func (t teller) outcome() span.Outcome { return span.Outcome(t.Text(span.KeyOutcome)) }

func (t teller) file(kind span.Kind) Event {
	if t.has(sensitive) {
		if e := t.secret(kind); e.Name != "" {
			return e
		}
	}
	if t.has(outside) {
		return Event{Outside, Warn, t.who() + " " + t.changed(kind)}
	}
	if t.has(undeclared) {
		return Event{Undeclared, Warn, t.who() + " " + t.changed(kind) + ", which its call had not declared"}
	}
	if kind == span.Open {
		return Event{}
	}
	op := t.Text(span.KeyFileOperation)
	done := t.outcome() == span.OK
	switch {
	case done && op == "chmod" && t.setsID():
		mode := word(t.Text(span.KeyFileMode))
		return Event{Privileges, Warn, t.who() + " made " + t.path() + " set-user-id or set-group-id (" + mode + ")"}
	case done && op == "setxattr" && t.Text(span.KeyFileAttribute) == "security.capability":
		return Event{Privileges, Warn, t.who() + " gave capabilities to " + t.path()}
	case mounted[op] != "" && !t.sandboxing():
		if done {
			return Event{Mount, Info, t.who() + " " + mounted[op] + " " + t.path()}
		}
		return Event{Mount, Info, t.who() + " tried in vain: " + op + " " + t.path() + t.why()}
	}
	return Event{}
}

// secret tells of a sensitive path. Its path alone (O_PATH) is no content, and one that is not there has none.
func (t teller) secret(kind span.Kind) Event {
	switch {
	case t.touchesNone():
	case t.outcome() == span.Refused:
		return Event{Secret, Info, t.who() + " was refused " + t.path() + t.why()}
	case t.outcome() == span.OK && t.ownCredentials():
		return Event{Secret, Info, t.who() + " " + t.changed(kind) + ", its agent's own"}
	case t.outcome() == span.OK:
		return Event{Secret, Warn, t.who() + " " + t.changed(kind)}
	}
	return Event{}
}

// changed says what was done to a file: "read /etc/shadow".
func (t teller) changed(kind span.Kind) string {
	verb := "opened"
	if kind == span.Open {
		switch t.Text(span.KeyFileAccess) {
		case "read":
			verb = "read"
		case "create":
			verb = "created"
		case "write", "read_write", "truncate":
			verb = "opened for writing"
		}
		return verb + " " + t.path() + t.many()
	}
	switch op := t.Text(span.KeyFileOperation); op {
	case "rename", "exchange", "link", "move_mount":
		verb = map[string]string{
			"rename": "renamed", "exchange": "exchanged", "link": "linked", "move_mount": "moved",
		}[op]
		if old := t.Text(span.KeyFileOldPath); old != "" {
			return verb + " " + short(old) + " → " + t.path() + t.many()
		}
	case "unlink", "rmdir":
		verb = "deleted"
	case "mkdir", "mknod":
		verb = "made"
	case "symlink":
		return "linked " + t.path() + " to " + short(t.Text(span.KeyFileLinkTarget))
	case "truncate":
		verb = "set the size of"
	case "chmod":
		verb = "set the mode " + word(t.Text(span.KeyFileMode)) + " of"
	case "chown":
		verb = "set the owner of"
	case "setxattr", "removexattr":
		verb = "changed an attribute of"
	case "utimes":
		verb = "set the times of"
	default:
		verb = "changed (" + word(op) + ")"
	}
	return verb + " " + t.path() + t.many()
}

func (t teller) program(kind span.Kind) Event {
	if kind != span.Start && t.has(oomKilled) {
		return Event{OOM, Warn, t.who() + " was killed for memory"}
	}
	// A program is told of once: by its notice, or by its span if there was none.
	if kind == span.Exit || kind == span.Exec && t.has(noticed) || t.has(preexisting) {
		return Event{}
	}
	by := "a process"
	if p := t.Text(span.KeyParentExecutable); p != "" {
		by = word(path.Base(p))
	}
	what := short(t.Text(span.KeyExecutablePath))
	switch {
	case t.has(fileless):
		return Event{Fileless, Warn, by + " ran " + what + ", which has no file"}
	case t.has(privileged):
		return Event{Privileges, Warn, by + " ran " + what + ", which gained rights by that"}
	case t.has(callRoot) && t.Text(span.KeyAttribution) == "unannounced":
		return Event{Unannounced, Warn, by + " ran outside of every call: " + short(t.Text(span.KeyCommandLine))}
	case t.has(contradicted):
		return Event{Claim, Warn, by + " ran " + what + " with an id in its environment that lineage contradicts"}
	}
	return Event{}
}

func (t teller) connect(kind span.Kind) Event {
	// A connect is told of once, by its notice if it has one, as a program is.
	if kind == span.Connect && t.has(noticed) || !t.has(sensitive|newDestination) {
		return Event{}
	}
	verb := " connected to "
	if kind == span.ConnectStart || t.outcome() != span.OK && t.Find(span.KeyErrorType) != nil {
		verb = " tried to connect to "
	}
	if t.has(sensitive) {
		switch t.outcome() {
		case span.Refused:
			return Event{Secret, Info, t.who() + " was refused " + short(t.Text(span.KeyPeerAddress)) + t.why()}
		case span.Missing:
			return Event{}
		}
		return Event{Secret, Warn, t.who() + verb + short(t.Text(span.KeyPeerAddress)) + t.why()}
	}
	to := t.Text(span.KeyServerAddress)
	if to == "" {
		to = t.Text(span.KeyPeerAddress)
	}
	return Event{Destination, Info, t.who() + verb + t.endpoint(to, span.KeyPeerPort) + t.why()}
}

func (t teller) listen() Event {
	if t.Text(span.KeyTransport) == "unix" {
		return Event{}
	}
	at := t.endpoint(t.Text(span.KeyLocalAddress), span.KeyLocalPort)
	if t.outcome() != span.OK {
		if t.outcome() == span.Refused {
			return Event{Listen, Info, t.who() + " was refused to listen at " + at + t.why()}
		}
		return Event{}
	}
	return Event{Listen, Info, t.who() + " listens at " + at}
}

func (t teller) socket() Event {
	family, kind := t.Text(span.KeySocketFamily), t.Text(span.KeySocketType)
	if family != "packet" && kind != "raw" || family == "bluetooth" || family == "can" {
		return Event{}
	}
	if family != "packet" {
		family += " raw"
	}
	if t.outcome() != span.OK {
		return Event{RawSocket, Info, t.who() + " was refused a " + word(family) + " socket" + t.why()}
	}
	return Event{RawSocket, Warn, t.who() + " made a " + word(family) + " socket, which sees or forges packets"}
}

func (t teller) escape() Event {
	from, to := short(t.Text(span.KeyCgroupFrom)), t.Text(span.KeyCgroupTo)
	if to == "" {
		return Event{Escape, Error, t.who() + " left its sandbox " + from}
	}
	return Event{Escape, Error, t.who() + " left its sandbox: " + from + " → " + short(to)}
}

func (t teller) namespace() Event {
	if t.sandboxing() {
		return Event{}
	}
	types := word(strings.Join(t.List(span.KeyNamespaceTypes), ", "))
	if types == "" {
		types = "unknown"
	}
	if t.outcome() != span.OK {
		return Event{Namespace, Info, t.who() + " was refused namespaces (" + types + ")" + t.why()}
	}
	if t.Text(span.KeyNamespaceOp) == "setns" {
		return Event{Namespace, Warn, t.who() + " joined namespaces (" + types + ")"}
	}
	return Event{Namespace, Info, t.who() + " made namespaces (" + types + ")"}
}

func (t teller) access() Event {
	target := "a process"
	if exe := t.Text(span.KeyAccessExe); exe != "" {
		target = word(path.Base(exe))
	}
	if pid, ok := t.Int(span.KeyAccessPID); ok {
		target += " (pid " + strconv.FormatInt(pid, 10) + ")"
	}
	severity := Warn
	if t.has(targetOutside) {
		target += " outside of its sandbox"
		severity = Error
	}
	if t.outcome() != span.OK {
		severity = Info
	}
	var verb string
	switch op := t.Text(span.KeyAccessOp); op {
	case "ptrace_attach", "ptrace_seize":
		verb = " attached to "
	case "process_vm_readv":
		verb = " read the memory of "
	case "process_vm_writev":
		verb = " wrote to the memory of "
	case "pidfd_getfd":
		verb = " took a descriptor of "
	case "signal":
		verb = " sent " + word(t.Text(span.KeyAccessSignal)) + " to "
		if severity == Error {
			severity = Warn
		}
	default: // of a file of /proc the open tells, if that is a sensitive one
		return Event{}
	}
	if severity == Info {
		verb = " tried in vain:" + verb
	}
	return Event{Access, severity, t.who() + verb + target + t.why()}
}

// call tells of the call as a whole. That it was denied is reported in time for its row of the story, or later by
// itself.
func (t teller) call(kind span.Kind) Event {
	title := short(t.Text(span.KeyCallTitle))
	if title == "" {
		title = "a call"
	}
	switch {
	case t.has(violated) && (kind == span.SessionCall || t.Text(span.KeyTelemetryKind) == "decision"):
		return Event{Violated, Error, "denied, but it ran: " + title}
	case t.has(tainted) && kind == span.SessionCall:
		return Event{Tainted, Warn, "somebody else had reached into it or its agent: " + title}
	}
	return Event{}
}

func (t teller) loss() Event {
	cause := t.Text(span.KeyLostCause)
	if strings.HasSuffix(cause, "_repeat") || strings.HasSuffix(cause, "_noise") {
		return Event{} // the first one was told, or nobody asks
	}
	n, _ := t.Int(span.KeyLost)
	what := word(t.Text(span.KeyLostKind)) + ", " + word(cause)
	return Event{Loss, Warn, strconv.FormatInt(n, 10) + " records were lost (" + what + ")"}
}

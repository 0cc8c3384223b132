// SPDX-License-Identifier: Apache-2.0

package span

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// The marks of the sensor's spans: nothing that it passes on for agents has them.
const (
	ScopeName  = "github.com/sheetbend/sheetbend" // instrumentation scope
	AttrPrefix = "sheetbend."                     // of the attributes that only the sensor sets
)

// Every identifier is the head of a SHA-256 over text fields joined by single NUL
// bytes, numbers in decimal, so that anyone with a shell can recompute it:
//
//	printf 'sheetbend tool\0%s\0%s' "$instance" "$call" | sha256sum | cut -c1-16
//
// A head of all zero bytes, which OTLP forbids, has its last byte set to one. A trace id begins with TracePrefix
// and goes on with the head:
//
//	printf 62656e64; printf 'sheetbend trace\0%s\0%s\0%d' "$instance" "$call" "$slice" | sha256sum | cut -c1-24

// TracePrefix begins every trace id that the sensor makes, and no other one but by chance (1 in 4 billion): so
// whoever passes on other people's spans can refuse those that would stand in the sensor's traces, whether the
// sensor has made the trace, will make it or runs on another host. The bytes are ASCII for "bend".
const TracePrefix = "bend"

// Own says whether a trace id is one of the sensor's, and not that of an agent's trace that it joined.
func (t TraceID) Own() bool { return string(t[:len(TracePrefix)]) == TracePrefix }

// TraceFor is the trace of one slice of what an agent instance does by itself, or of one tool call of it.
// Fields: "sheetbend trace", instance, call (empty outside calls), slice (from 0).
func TraceFor(instance, call string, slice uint64) TraceID {
	return traceOf("sheetbend trace", instance, call, slice)
}

// StoryFor is the trace of one part of an agent instance's story. Fields: "sheetbend story", instance, "", part (from 0).
func StoryFor(instance string, part uint64) TraceID {
	return traceOf("sheetbend story", instance, "", part)
}

func traceOf(what, instance, call string, n uint64) TraceID {
	var room [256]byte
	b := text(text(append(room[:0], what...), instance), call)
	sum := sha256.Sum256(number(b, n))
	var id TraceID
	copy(id[copy(id[:], TracePrefix):], sum[:])
	return id
}

// SessionSpan is the session span of one part of a story. Fields: "sheetbend session", instance, "", part (only from 1).
func SessionSpan(instance string, part uint64) ID {
	return ofCall("sheetbend session", instance, "", part)
}

// SessionEndSpan is the session.end span of an agent. Fields: "sheetbend session end", instance.
func SessionEndSpan(instance string) ID { return ofCall("sheetbend session end", instance, "", 0) }

// SandboxEndSpan is the sandbox.end span of a sandbox. Fields: "sheetbend sandbox end", sandbox id, "", time of the first
// change that it tells of (ns of boottime).
func SandboxEndSpan(sandbox string, at uint64) ID {
	return ofCall("sheetbend sandbox end", sandbox, "", at)
}

// CallSpan is the session.call span of a call. Fields: "sheetbend session call", instance, call.
func CallSpan(instance, call string) ID { return ofCall("sheetbend session call", instance, call, 0) }

// SandboxID is the stable name of a sandbox: "sb-" and 16 hex digits.
// Fields: "sheetbend sandbox", boot id, cgroup id.
func SandboxID(boot string, cgroup uint64) string {
	var room [256]byte
	id := head(number(text(append(room[:0], "sheetbend sandbox"...), boot), cgroup))
	return "sb-" + hex.EncodeToString(id[:])
}

// ToolSpan is the execute_tool span of a call. In a later slice n, or where the call has left the agent's own trace, it
// stands in for the first: then n is the slice and one more. Fields: "sheetbend tool", instance, call, n (if above 0).
func ToolSpan(instance, call string, n uint64) ID {
	return ofCall("sheetbend tool", instance, call, n)
}

// ToolEndSpan is the tool.end span of a call. Fields: "sheetbend tool end", instance, call.
func ToolEndSpan(instance, call string) ID {
	return ofCall("sheetbend tool end", instance, call, 0)
}

// TelemetrySpan is the n-th tool.telemetry span of a call. Fields: "sheetbend telemetry", instance, call, n (from 1).
func TelemetrySpan(instance, call string, n uint64) ID {
	return ofCall("sheetbend telemetry", instance, call, n)
}

func ofCall(what, instance, call string, n uint64) ID {
	var room [256]byte
	b := text(text(append(room[:0], what...), instance), call)
	if n > 0 {
		b = number(b, n)
	}
	return head(b)
}

// InferredCall is the computed id of a call that its agent does not name: "inferred-" and 16 hex
// digits. Fields: "sheetbend call", boot id, and of the call's first process pid, start, exec id.
func InferredCall(boot string, i Image) string {
	var room [256]byte
	id := head(image(room[:0], whatCall, boot, i))
	return "inferred-" + hex.EncodeToString(id[:])
}

// AgentInstance names an agent instance, from its first program on: "agent-" and 16 hex digits. It is also the session
// of a nested agent until its own is known. Fields: "sheetbend agent", boot id, and of the agent's first program pid,
// start, exec id.
func AgentInstance(boot string, i Image) string {
	var room [256]byte
	id := head(image(room[:0], whatAgent, boot, i))
	return "agent-" + hex.EncodeToString(id[:])
}

// HarnessInstance names whoever marks calls in a sandbox for processes below no agent: "harness-" and 16 hex digits.
// Fields: "sheetbend harness", sandbox id, session (as the marks name it, "" if they do not).
func HarnessInstance(sandbox, session string) string {
	id := ofCall("sheetbend harness", sandbox, session, 0)
	return "harness-" + hex.EncodeToString(id[:])
}

// FoundSandboxID is the sandbox id of an agent that was found outside of all sandboxes: "sb-" and 16 hex digits.
// Fields: "sheetbend found", boot id, and of the agent's process pid, start, exec id.
func FoundSandboxID(boot string, i Image) string {
	var room [256]byte
	id := head(image(room[:0], whatFound, boot, i))
	return "sb-" + hex.EncodeToString(id[:])
}

// Image names one program run by one process: the process by pid and start time
// (ns of boottime), the program by the kernel's count of execs, which forks inherit.
type Image struct {
	Tgid   uint32
	Start  uint64
	ExecID uint64
}

// What, with an Image and the numbers that the function of the kind lists, makes a span id.
const (
	whatExec    = "exec"
	whatSeen    = "seen"
	whatExit    = "exit"
	whatOpen    = "open"
	whatConnect = "connect"
	whatEscape  = "escape"
	whatSocket  = "socket"
	whatNs      = "namespace"
	whatAccess  = "access"
	whatChange  = "change"
	whatLookup  = "lookup"
	whatListen  = "listen"
	whatAccept  = "accept"
	whatClose   = "close"
	whatCall    = "call"
	whatAgent   = "agent"
	whatFound   = "found"
	whatStandIn = "stand-in"
	whatRefused = "exec refused"
)

// ExecSpan is the span of an exec.
// Fields: "sheetbend exec", boot id, pid, start, exec id.
func ExecSpan(boot string, i Image) ID {
	var room [256]byte
	return head(image(room[:0], whatExec, boot, i))
}

// SeenSpan is the process.exec span of a process that is older than the sensor.
// Fields: "sheetbend seen", boot id, pid, start, exec id, time it was looked at (ns of boottime).
func SeenSpan(boot string, i Image, at uint64) ID {
	var room [256]byte
	return head(number(image(room[:0], whatSeen, boot, i), at))
}

// StandInSpan is the process.exec span that stands for a program in a later slice.
// Fields: "sheetbend stand-in", boot id, pid, start, exec id, trace id (in hex digits).
func StandInSpan(boot string, i Image, trace TraceID) ID {
	var room [256]byte
	return head(text(image(room[:0], whatStandIn, boot, i), hex.EncodeToString(trace[:])))
}

// ExitSpan is the process.exit span of an image.
// Fields: "sheetbend exit", boot id, pid, start, exec id.
func ExitSpan(boot string, i Image) ID {
	var room [256]byte
	return head(image(room[:0], whatExit, boot, i))
}

// NoticeSpan is the notice of a span: process.start, tool.start or net.connect.start.
// Fields: "sheetbend notice", the span's id (in hex digits).
func NoticeSpan(of ID) ID {
	var room [256]byte
	return head(text(append(room[:0], "sheetbend notice"...), hex.EncodeToString(of[:])))
}

// OpenSpan is a file.open span; at and tid are those of the first open counted in it.
// Fields: "sheetbend open", boot id, pid, start, exec id, tid, at (ns of boottime).
func OpenSpan(boot string, i Image, tid uint32, at uint64) ID {
	return point(whatOpen, boot, i, tid, at)
}

// ConnectSpan is a net.connect span. Fields as OpenSpan, with "sheetbend connect".
func ConnectSpan(boot string, i Image, tid uint32, at uint64) ID {
	return point(whatConnect, boot, i, tid, at)
}

// EscapeSpan is a cgroup.escape span. Fields as OpenSpan, with "sheetbend escape".
func EscapeSpan(boot string, i Image, tid uint32, at uint64) ID {
	return point(whatEscape, boot, i, tid, at)
}

// SocketSpan is a net.socket span. Fields as OpenSpan, with "sheetbend socket".
func SocketSpan(boot string, i Image, tid uint32, at uint64) ID {
	return point(whatSocket, boot, i, tid, at)
}

// NamespaceSpan is a process.namespace span. Fields as OpenSpan, with "sheetbend namespace".
func NamespaceSpan(boot string, i Image, tid uint32, at uint64) ID {
	return point(whatNs, boot, i, tid, at)
}

// AccessSpan is a process.access span. Fields as OpenSpan, with "sheetbend access".
func AccessSpan(boot string, i Image, tid uint32, at uint64) ID {
	return point(whatAccess, boot, i, tid, at)
}

// ChangeSpan is a file.change span. Fields as OpenSpan, with "sheetbend change".
func ChangeSpan(boot string, i Image, tid uint32, at uint64) ID {
	return point(whatChange, boot, i, tid, at)
}

// RefusedSpan is a process.exec.refused span. Fields as OpenSpan, with "sheetbend exec refused".
func RefusedSpan(boot string, i Image, tid uint32, at uint64) ID {
	return point(whatRefused, boot, i, tid, at)
}

// LimitSpan is a sandbox.limit span. Fields: "sheetbend limit", boot id, instance, cgroup id, limit, at (ns of boottime).
func LimitSpan(boot, instance string, cgroup uint64, limit string, at uint64) ID {
	var room [256]byte
	b := text(text(append(room[:0], "sheetbend limit"...), boot), instance)
	return head(number(text(number(b, cgroup), limit), at))
}

// LookupSpan is a dns.lookup span: several queries may be in one record. Fields as OpenSpan, with "sheetbend lookup", then
// of the DNS message its id, the type and the name that it asks for.
func LookupSpan(boot string, i Image, tid uint32, at uint64, id, kind uint16, name string) ID {
	var room [256]byte
	b := number(number(image(room[:0], whatLookup, boot, i), uint64(tid)), at)
	return head(text(number(number(b, uint64(id)), uint64(kind)), name))
}

// ListenSpan is a net.listen span. Fields as OpenSpan, with "sheetbend listen".
func ListenSpan(boot string, i Image, tid uint32, at uint64) ID {
	return point(whatListen, boot, i, tid, at)
}

// AcceptSpan is a net.accept span. Fields as OpenSpan, with "sheetbend accept".
func AcceptSpan(boot string, i Image, tid uint32, at uint64) ID {
	return point(whatAccept, boot, i, tid, at)
}

// CloseSpan is a net.close span, of the program that connected or accepted.
// Fields: "sheetbend close", boot id, pid, start, exec id, cookie of the socket, at (ns of boottime).
func CloseSpan(boot string, i Image, cookie, at uint64) ID {
	var room [256]byte
	return head(number(number(image(room[:0], whatClose, boot, i), cookie), at))
}

// LossSpan is a sensor.loss span. Fields: "sheetbend loss", boot id, instance, cgroup id, kind, cause, from, to (ns of
// boottime); where it was counted by process also its pid and start.
func LossSpan(boot, instance string, cgroup uint64, process Image, kind, cause string, from, to uint64) ID {
	var room [256]byte
	b := append(room[:0], "sheetbend loss"...)
	b = text(b, boot)
	b = text(b, instance)
	b = number(b, cgroup)
	b = text(b, kind)
	b = text(b, cause)
	b = number(number(b, from), to)
	if process.Tgid != 0 {
		b = number(number(b, uint64(process.Tgid)), process.Start)
	}
	return head(b)
}

func point(what, boot string, i Image, tid uint32, at uint64) ID {
	var room [256]byte
	return head(number(number(image(room[:0], what, boot, i), uint64(tid)), at))
}

func image(b []byte, what, boot string, i Image) []byte {
	b = append(b, "sheetbend "...)
	b = append(b, what...)
	b = text(b, boot)
	b = number(b, uint64(i.Tgid))
	b = number(b, i.Start)
	return number(b, i.ExecID)
}

func text(b []byte, s string) []byte {
	b = append(b, 0)
	return append(b, s...)
}

func number(b []byte, n uint64) []byte {
	b = append(b, 0)
	return strconv.AppendUint(b, n, 10)
}

func head(b []byte) ID {
	sum := sha256.Sum256(b)
	var id ID
	copy(id[:], sum[:])
	if id == (ID{}) {
		id[7] = 1
	}
	return id
}

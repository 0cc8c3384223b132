// Package span holds the finished span, the form in which the collector hands
// what it knows to the exporters, and the computed identifiers of the span contract.
package span

// Contract is the version of the span contract (docs/spans.md): the names and
// meanings of spans and attributes. It changes when a rule written against them could break.
const Contract = "2"

// Kind is a row of the span contract.
type Kind uint8

// The span kinds; String gives the low-cardinality name.
const (
	Exec Kind = iota + 1
	Exit
	Open
	Connect
	Escape
	Loss
	Tool      // a tool call
	ToolEnd   // the end of a call that outlived the hold
	Telemetry // what the agent's telemetry reported of a call, too late for its Tool span
	Socket    // a socket whose traffic makes no Connect span
	Namespace
	Access // one process reached into another
	Change // of a file, but for its content
	Lookup // of a name

	// Of a story.
	Session
	SessionCall
	SessionEnd // of an agent that outlived the hold

	SandboxEnd // what was changed in a sandbox, but for what agents did

	// Notices of spans whose end does not come within the hold.
	Start        // of Exec
	ToolStart    // of Tool
	ConnectStart // of Connect

	ExecRefused // an exec that was refused
	Limit       // a limit of a sandbox's cgroup was hit
	Listen      // a socket that others can connect to
	Accept      // connections that came in
	Close       // the end of a connection
)

var kindNames = [...]string{
	Exec: "process.exec", Exit: "process.exit", Open: "file.open", Connect: "net.connect", Escape: "cgroup.escape",
	Loss: "sensor.loss", Tool: "execute_tool", ToolEnd: "tool.end", Telemetry: "tool.telemetry", Socket: "net.socket",
	Namespace: "process.namespace", Access: "process.access", Change: "file.change", Lookup: "dns.lookup",
	Session: "session", SessionCall: "session.call", SessionEnd: "session.end",
	Start: "process.start", ToolStart: "tool.start", ConnectStart: "net.connect.start",
	ExecRefused: "process.exec.refused", Limit: "sandbox.limit", SandboxEnd: "sandbox.end",
	Listen: "net.listen", Accept: "net.accept", Close: "net.close",
}

// Kinds are all that have a name.
func Kinds() (kinds []Kind) {
	for k := range kindNames {
		if k > 0 {
			kinds = append(kinds, Kind(k))
		}
	}
	return kinds
}

// Story says whether such spans sum up what others tell, and are not where things happened.
func (k Kind) Story() bool {
	return k == Session || k == SessionCall || k == SessionEnd || k == SandboxEnd
}

// String is the name of the contract, the value of sheetbend.event: for example "process.exec", and "unknown" for a kind
// that it does not have.
func (k Kind) String() string {
	if int(k) >= len(kindNames) || k == 0 {
		return "unknown"
	}
	return kindNames[k]
}

// TraceID is the OTLP identifier of a trace. The zero value means absent.
type TraceID [16]byte

// ID is the OTLP identifier of a span. The zero value means absent.
type ID [8]byte

// Link points at a span, possibly in another trace.
type Link struct {
	Trace TraceID
	Span  ID
}

// Rel says what a span that another one links to is to that one: the value of sheetbend.link.
type Rel string

// What a link leads to.
const (
	ToParent Rel = "parent" // the parent, which is in another trace
	ToCall   Rel = "call"   // execute_tool of the call, or of the call that this one was made in
	ToAgent  Rel = "agent"  // the agent's own span for the call
	ToStory  Rel = "story"  // the session
	ToDetail Rel = "detail" // what happened in a call
)

// Ref is a link of a span.
type Ref struct {
	Link
	Rel Rel
}

// Outcome is how what a span tells came out, the value of sheetbend.outcome; "" where it is not known, or there is none.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"
	Missing Outcome = "missing" // what was asked for is not there
	Refused Outcome = "refused" // it was forbidden
	Failed  Outcome = "failed"
)

// AttrKind says which field of an Attr is set.
type AttrKind uint8

// The attribute value types that the contract uses.
const (
	StringAttr AttrKind = iota + 1
	IntAttr
	BoolAttr
	StringsAttr
)

// Attr is one attribute. Strings are valid UTF-8.
type Attr struct {
	Key  string
	Kind AttrKind
	Str  string
	Int  int64 // IntAttr, and BoolAttr as 0 or 1
	List []string
}

// Resource is what a batch of spans shares. Spans of one sandbox carry the same *Resource,
// so exporters may group by pointer.
type Resource struct {
	Attrs []Attr
}

// Span is complete: its end is known, or its hold ran out and it is sent with what is known by then.
type Span struct {
	Trace    TraceID
	ID       ID
	Parent   ID   // zero: a root
	Remote   bool // the parent is an agent's own span
	Kind     Kind
	Name     string // Kind.String() unless configured for reading by people
	Start    uint64 // ns since the Unix epoch
	End      uint64 // ns since the Unix epoch, at least Start+1000
	Failed   bool   // status Error
	Status   string // status message, only when Failed
	Links    []Ref
	Attrs    []Attr
	Resource *Resource
	Above    ID     // what it stands under, in whichever slice that is; zero: nothing
	StandIn  bool   // it stands for a span of an earlier slice
	Session  string // session.id, for grouping; also among Attrs
	Instance string // sheetbend.agent.instance; also among Attrs

	// OfProgram: a program did it, which runs as User. Neither is exported.
	OfProgram bool
	User      User
}

// A User is whom a program runs as. The zero value is not known, as when its exec was lost.
type User struct {
	Known bool
	ID    uint32
}

// Sink receives spans in order. The span and everything that it points at belong to the
// caller and may be reused after Span returns; a sink that keeps any of it copies it first.
// Strings are immutable and may be kept. Calls come from one goroutine.
type Sink interface {
	Span(*Span)
	// Flush marks a point at which the spans received so far should move on: the
	// collector calls it at ticks of the record stream, so batches depend on the stream only.
	Flush()
}

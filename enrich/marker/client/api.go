// SPDX-License-Identifier: Apache-2.0

// Package client speaks the local API of a Sheetbend sensor (docs/local-api.md). A program that
// runs the tool calls of an agent in a persistent shell marks with it which call begins and
// ends, so that what the shell starts in between is reported as that call's:
//
//	c := client.Default()
//	...
//	err := c.Begin(ctx, client.Mark{Session: "s-1", Call: "call-7", Tool: "bash", PID: shell.Process.Pid})
//	... // the shell works
//	err = c.End(ctx, client.Mark{Session: "s-1", Call: "call-7", PID: shell.Process.Pid})
//
// It depends on the standard library and golang.org/x/sys only.
package client

import (
	"encoding/json"
	"slices"
	"time"
)

// Bounds of a request. The sensor refuses what is beyond.
const (
	MaxRequest = 64 << 10 // bytes of one line
	MaxText    = 1024     // bytes of each string
	MaxPaths   = 16       // of one mark
)

// The operations.
const (
	OpBegin    = "begin"
	OpEnd      = "end"
	OpSessions = "sessions"
	OpSession  = "session"
	OpHook     = "hook"
	// Of recordings.
	OpRecordings = "recordings"
	OpSpans      = "spans"
	OpForget     = "forget"
	// OpWatch has the process that asks watched from then on, with all that it starts.
	OpWatch = "watch"
)

// Values of Mark.Source.
const (
	SourceAPI  = "api"
	SourceHook = "hook"
)

// A Mark marks that a tool call begins or ends. Call is needed.
type Mark struct {
	Session string `json:"session,omitempty"` // the agent's session id; if empty, that of the sandbox
	Call    string `json:"call,omitempty"`    // the tool call's id, as the model gave it
	Tool    string `json:"tool,omitempty"`    // its name, for example "bash"
	Agent   string `json:"agent,omitempty"`   // the agent's name, for example "codex"
	// Traceparent is the call's own span, in the W3C format. The spans of the call stand below it.
	Traceparent string `json:"traceparent,omitempty"`
	// PID is the process that serves the call, for example a persistent shell, by its number in this process's pid
	// namespace. 0: the agent that this process is, or is a helper of.
	PID int `json:"pid,omitempty"`
	// Cgroup serves the call, with all that runs in it: a path from the cgroup v2 mount. Root only.
	Cgroup string `json:"cgroup,omitempty"`
	// Paths are absolute paths of files that the call says it changes or reads, MaxPaths at most; for a tool that works
	// inside of the agent.
	Paths []string `json:"paths,omitempty"`
	// Untold: there are more paths than these.
	Untold bool `json:"untold,omitempty"`
	// Command is the hash of the command that the call is to run (agents.CommandHash), by which parallel calls are told
	// apart.
	Command string `json:"command,omitempty"`
	// Thread is the agent's id of the subagent that makes the call; where it ends, of the one that it began.
	Thread string `json:"thread,omitempty"`
	// Source is SourceAPI if empty. The answer to a SourceHook does not wait for its result.
	Source string `json:"source,omitempty"`
}

// A Request is one line to the sensor.
type Request struct {
	Op string `json:"op"`
	Mark
	Recording string `json:"recording,omitempty"` // its name, of OpSpans and OpForget
}

// A Response is one line from the sensor.
type Response struct {
	OK       bool      `json:"ok,omitempty"`
	Judged   bool      `json:"judged,omitempty"` // of OpBegin and OpEnd: the mark has had its effect
	Error    string    `json:"error,omitempty"`
	Sessions []Session `json:"sessions,omitzero"` // of OpSessions
	Session  *Tree     `json:"session,omitempty"` // of OpSession
	// Recordings, of OpRecordings: the one with the newest span last.
	Recordings []Recording `json:"recordings,omitzero"`
	// Stream, of OpSpans: chunks follow, each with its length before it (four bytes, big endian), the last one empty.
	// Together they are the recording.
	Stream bool `json:"stream,omitempty"`
	// Cgroup, of OpWatch, is that of the process from now on, a path from the cgroup v2 mount; frames follow.
	Cgroup string `json:"cgroup,omitempty"`
	// Watched, of OpWatch: the process is watched already, in the sandbox that it is in. Nothing follows.
	Watched bool `json:"watched,omitempty"`
	// Hook, of OpHook, is how to read what an agent sends its hooks: agents[].hook of the sensor's configuration.
	// Absent: the sensor knows no such agent.
	Hook json.RawMessage `json:"hook,omitempty"`
}

// A Session is what the sensor knows of one.
type Session struct {
	ID        string    `json:"id"`
	Agent     string    `json:"agent,omitempty"`
	Start     time.Time `json:"start"`
	Last      time.Time `json:"last"`      // newest sign of life
	Processes int       `json:"processes"` // that run, by the spans so far: up to the hold (2 s) behind
	Spans     uint64    `json:"spans"`
	Calls     []Call    `json:"calls,omitempty"` // newest last; old ones are forgotten
}

// A Call is a tool call of a session.
type Call struct {
	ID          string    `json:"id,omitempty"`      // absent while only its trace context is known
	Context     string    `json:"context,omitempty"` // of the agent's span: trace and span id in hex, with a dash
	Tool        string    `json:"tool,omitempty"`
	Attribution string    `json:"attribution,omitempty"` // how sure that is; see docs/spans.md
	Approval    string    `json:"approval,omitempty"`
	Start       time.Time `json:"start"`
	Last        time.Time `json:"last"`
	Processes   int       `json:"processes"`
	Failed      bool      `json:"failed,omitempty"`
}

// A Recording is what the sensor has kept on disk of one agent instance, or of a sandbox without an agent.
type Recording struct {
	Name     string    `json:"name"`               // of the file
	Session  string    `json:"session"`            // its id
	Sessions []string  `json:"sessions,omitempty"` // ids of others that are in it, too, as of subagents
	Instance string    `json:"instance"`
	Sandbox  string    `json:"sandbox"`
	Agent    string    `json:"agent,omitempty"`
	User     *uint32   `json:"user,omitempty"` // who ran its first program; absent: not known
	Start    time.Time `json:"start"`
	Last     time.Time `json:"last"`
	Spans    uint64    `json:"spans"`
	Calls    uint64    `json:"calls"`             // that have ended
	Failed   uint64    `json:"failed,omitempty"`  // of these
	Lost     uint64    `json:"lost,omitempty"`    // spans that could not be recorded
	Cut      uint64    `json:"cut,omitempty"`     // spans at the beginning that are gone: too many, or too old
	Bytes    int64     `json:"bytes"`             // on disk
	Damaged  bool      `json:"damaged,omitempty"` // it cannot be read to its end
}

// Is says whether a session or an agent instance of this id is in it.
func (r *Recording) Is(id string) bool {
	return r.Session == id || r.Instance == id || slices.Contains(r.Sessions, id)
}

// A Tree is a session with its newest spans.
type Tree struct {
	Session
	Dropped uint64 `json:"dropped,omitempty"` // spans that were here once, or did not fit the answer
	Roots   []Node `json:"roots"`
}

// A Node is one span with what stands below it, in the order of time.
type Node struct {
	Kind     string         `json:"kind"` // the span's sheetbend.event in docs/spans.md, for example "process.exec"
	Trace    string         `json:"trace"`
	Span     string         `json:"span"`
	Start    time.Time      `json:"start"`
	End      time.Time      `json:"end"`
	Failed   bool           `json:"failed,omitempty"`
	Status   string         `json:"status,omitempty"`
	Attrs    map[string]any `json:"attributes,omitempty"` // string, bool, number or list of strings
	Children []Node         `json:"children,omitempty"`
}

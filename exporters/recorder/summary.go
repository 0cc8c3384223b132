// SPDX-License-Identifier: Apache-2.0

package recorder

import (
	"cmp"
	"slices"

	"github.com/sheetbend/sheetbend/collector/span"
)

// A Summary tells what a recording has, without decoding it. Times are ns since the Unix epoch.
type Summary struct {
	Version  int      `json:"sheetbend_recording"`
	Instance string   `json:"instance"` // sheetbend.agent.instance
	Sandbox  string   `json:"sandbox"`  // sheetbend.sandbox.id
	Agent    string   `json:"agent,omitempty"`
	Session  string   `json:"session"`            // the agent's own, as far as it is known
	Sessions []string `json:"sessions,omitempty"` // all that spans had, the newest maxSessions
	User     *uint32  `json:"user,omitempty"`     // who ran the first program; nil: not known
	Owner    *uint32  `json:"owner,omitempty"`    // who ran the first program seen in the sandbox: whose share it takes
	Start    uint64   `json:"start"`
	Last     uint64   `json:"last"`
	Spans    uint64   `json:"spans"`
	Calls    uint64   `json:"calls,omitempty"`  // session.call spans
	Failed   uint64   `json:"failed,omitempty"` // of these
	Lost     uint64   `json:"lost,omitempty"`   // spans that could not be written
	Cut      uint64   `json:"cut,omitempty"`    // spans taken away at the beginning: too many, too old

	// Of the block alone.
	Bytes int    `json:"bytes"` // length of the zstd frame that follows
	Until uint64 `json:"until"` // newest end of a span in it
	Count uint64 `json:"count"` // spans in it
}

// Is says whether a session of this id is in the recording.
func (s *Summary) Is(id string) bool {
	return s.Session == id || s.Instance == id || slices.Contains(s.Sessions, id)
}

// clone shares nothing with s.
func (s *Summary) clone() Summary {
	out := *s
	out.Sessions = slices.Clone(s.Sessions)
	return out
}

// see notes a session id.
func (s *Summary) see(id string) {
	if id == "" || len(id) > maxName || slices.Contains(s.Sessions, id) {
		return
	}
	if len(s.Sessions) >= maxSessions {
		s.Sessions = s.Sessions[1:]
	}
	s.Sessions = append(s.Sessions[:len(s.Sessions):len(s.Sessions)], id)
}

// add tells of a span of the block.
func (s *Summary) add(x *span.Span) {
	s.Spans++
	s.Count++
	s.Start, s.Last, s.Until = min(s.Start, x.Start), max(s.Last, x.End), max(s.Until, x.End)
	a := span.Attrs(x.Attrs)
	if s.Sandbox == "" {
		s.Sandbox = clip(a.Text(span.KeySandboxID))
	}
	if name := a.Text(span.KeyAgentName); name != "" && s.Agent != name {
		s.Agent = clip(name)
	}
	if len(s.Sessions) == 0 || s.Sessions[len(s.Sessions)-1] != x.Session {
		s.see(x.Session)
	}
	// What an agent does itself has its session; a call may be a subagent's.
	own := a.Find(span.KeyCallID) == nil && a.Find(span.KeyCallContext) == nil
	if s.Session == "" || own && x.Session != x.Instance && s.Session != x.Session {
		s.Session = clip(x.Session)
	}
	if uid, ok := span.UserOf(x); ok {
		s.User = agree(s.User, &uid)
	}
	if x.Kind == span.SessionCall {
		s.Calls++
		if x.Failed {
			s.Failed++
		}
	}
}

// agree is the user that both say, or the one of them that says; root, where they say different ones: what was done by
// several users is shown to none of them.
func agree(a, b *uint32) *uint32 {
	switch {
	case a == nil:
		return b
	case b == nil || *a == *b:
		return a
	}
	return new(uint32)
}

// merge adds what a block tells.
func (s *Summary) merge(b *Summary) {
	s.Sandbox = cmp.Or(s.Sandbox, b.Sandbox)
	s.Agent = cmp.Or(b.Agent, s.Agent)
	// An id of its own is not given up for one that was made up, as of what was done outside of all sessions.
	if s.Session == "" || b.Session != b.Instance && b.Session != b.Sandbox {
		s.Session = b.Session
	}
	for _, id := range b.Sessions {
		s.see(id)
	}
	s.User = agree(s.User, b.User)
	if s.Owner == nil {
		s.Owner = s.User
	}
	s.Start, s.Last, s.Until = min(s.Start, b.Start), max(s.Last, b.Last), b.Until
	s.Spans += b.Spans
	s.Calls += b.Calls
	s.Failed += b.Failed
	s.Count = b.Count
}

func clip(s string) string { return span.Clip(s, maxName) }

// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/capture"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// recorded are the spans of a recorded session, copied.
type recorded struct {
	t     *testing.T
	spans []*span.Span
	byID  map[span.Link]*span.Span
}

func (r *recorded) Span(s *span.Span) {
	c := *s
	c.Attrs, c.Links = slices.Clone(s.Attrs), slices.Clone(s.Links)
	r.spans = append(r.spans, &c)
	id := span.Link{Trace: s.Trace, Span: s.ID}
	if r.byID[id] != nil {
		r.t.Errorf("two spans have the id %x", s.ID)
	}
	r.byID[id] = &c
}

func (r *recorded) Flush() {}

func (r *recorded) text(s *span.Span, key string) string {
	for _, a := range s.Attrs {
		if a.Key == key {
			return a.Str
		}
	}
	return ""
}

func (r *recorded) number(s *span.Span, key string) int64 {
	for _, a := range s.Attrs {
		if a.Key == key {
			return a.Int
		}
	}
	return 0
}

// replayAgent makes spans of a session of testdata/agents with the dialects of today, and with those that the
// user of it had: they come to the built-in ones, or replace parts.
func replayAgent(t *testing.T, name string, user ...agents.Dialect) *recorded {
	t.Helper()
	return replayLosing(t, name, 0, user...)
}

// replayLosing is replayAgent with one of so many records of each kind lost; 0: none.
func replayLosing(t *testing.T, name string, each int, user ...agents.Dialect) *recorded {
	t.Helper()
	in := openCapture(t, filepath.Join("..", "testdata", "agents", name+".capture.gz"))
	config := in.Header().Config
	config.Agents = agents.Merge(agents.Builtin(), user)
	config.Fold.CallFiles = 1 << 20 // each file is asked for
	r := &recorded{t: t, byID: map[span.Link]*span.Span{}}
	var c *collector.Collector
	if each > 0 {
		c = replay(t, losing{in, &rt.Losing{Each: each}}, config, r)
	} else {
		c = replay(t, in, config, r)
	}
	if s := c.Stats(); each == 0 && s.Malformed+s.Contradictions+s.RefusedSessions > 0 {
		t.Errorf("%+v", s)
	}
	return r
}

// losing is a capture of which records are lost.
type losing struct {
	*capture.Reader
	*rt.Losing
}

func (l losing) Next() ([]byte, error) {
	raw, err := l.Reader.Next()
	if err == nil {
		raw = l.Take(raw)
	}
	return raw, err
}

// A fixture says what it is of.
type fixture struct {
	Package string `json:"package"`
	Version string `json:"version"`
	StandIn string `json:"stand_in"` // what played the agent, and how its ways are known
	Session string `json:"session"`  // what it told its commands
}

func about(t *testing.T, name string) (f fixture) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "testdata", "agents", name+".json"))
	if err := errors.Join(err, json.Unmarshal(text, &f)); err != nil {
		t.Fatal(err)
	}
	if (f.Package == "" || f.Version == "") == (f.StandIn == "") {
		t.Errorf("%s.json has to name a package and its version, or a stand-in: %+v", name, f)
	}
	return f
}

// reads gives the spans of reading a file of the session by a command. Some agents read the files, too, that they see in a
// command line: that is their own doing, and in no call.
func (r *recorded) reads(file string) (found []*span.Span) {
	for _, s := range r.spans {
		if s.Kind != span.Open || !strings.HasSuffix(r.text(s, span.KeyFilePath), "/work/"+file) || r.text(s, span.KeyFileAccess) != "read" {
			continue
		}
		if by := r.text(s, span.KeyExecutableName); by == "cat" {
			found = append(found, s)
		} else if call := r.text(s, span.KeyCallID); call != "" {
			r.t.Errorf("%s read %s in call %q", by, file, call)
		}
	}
	return found
}

// under is the span, of the agent's own, that a span stands under in the end.
func (r *recorded) under(s *span.Span) span.Link {
	for {
		above := span.Link{Trace: s.Trace, Span: s.Parent}
		if r.byID[above] == nil {
			return above
		}
		s = r.byID[above]
	}
}

// said gives the calls that spans name which stand under a span of the agent's, or are linked to it.
func (r *recorded) said(of span.Link) (calls []string) {
	for _, s := range r.spans {
		about := (span.Link{Trace: s.Trace, Span: s.Parent}) == of || slices.ContainsFunc(s.Links, func(l span.Ref) bool { return l.Link == of })
		if call := r.text(s, span.KeyCallID); about && call != "" && !slices.Contains(calls, call) {
			calls = append(calls, call)
		}
	}
	return calls
}

// apart fails if anything of one call stands under another one, or the agent's own activity in any.
func (r *recorded) apart() {
	asked := 0
	for _, s := range r.spans {
		call := r.text(s, span.KeyCallID)
		if s.Kind == span.Connect && r.text(s, span.KeyPeerAddress) == "127.0.0.1" {
			asked++
			if call != "" {
				r.t.Errorf("the agent asked its model in call %q", call)
			}
		}
		for p := r.byID[span.Link{Trace: s.Trace, Span: s.Parent}]; p != nil && call != ""; p = r.byID[span.Link{Trace: p.Trace, Span: p.Parent}] {
			if above := r.text(p, span.KeyCallID); above != "" && above != call {
				r.t.Errorf("%s of call %q stands under %s of call %q", s.Name, call, p.Name, above)
			}
		}
	}
	if asked == 0 {
		r.t.Error("no connection to the model")
	}
}

// harness is the one of testdata/agents/my-harness.yaml.
var harness = agents.Dialect{
	Name: "my-harness", Scripts: []string{"my-harness/main.js"},
	Env: agents.Env{Session: []string{"MY_HARNESS_SESSION"}, Traceparent: agents.TraceparentCall, CallsNamed: true},
}

func TestRecordedSessionsOfAgentsGiveEveryCallItsOwn(t *testing.T) {
	t.Parallel()
	files := []string{"single", "left", "right", "failing", "after"}
	ids := []string{"call_steps_0_0", "call_steps_1_0", "call_steps_1_1", "call_steps_2_0", "call_steps_4_0"}
	withPlugin := agents.Dialect{
		Name: "opencode", Env: agents.Env{Session: []string{"OPENCODE_SESSION_ID"}, Call: []string{"OPENCODE_CALL_ID"}, CallsNamed: true},
	}
	for _, c := range []struct {
		fixture, agent, attribution string
		session                     bool // it tells its commands its session
		user                        []agents.Dialect
	}{
		{"codex", "codex", "call_id", true, nil},
		{"codex-0.104", "codex", "inferred", true, nil},
		{"claude-code", "claude-code", "inferred", true, nil},
		{"claude-agent-sdk", "claude-code", "inferred", true, nil},
		{"qwen-code", "qwen-code", "inferred", true, nil},
		{"qwen-code-traced", "qwen-code", "trace_context", true, nil},
		{"copilot-cli", "copilot-cli", "inferred", true, nil},
		{"gemini-cli", "gemini-cli", "inferred", false, nil},
		{"opencode", "opencode", "inferred", false, nil},
		{"opencode-plugin", "opencode", "call_id", true, []agents.Dialect{withPlugin}},
		{"cline", "cline", "inferred", false, nil},
		{"pi", "pi", "inferred", false, nil},
		{"kimi-code", "kimi-code", "inferred", false, nil},
		{"nanocoder", "nanocoder", "inferred", false, nil},
		{"goose", "goose", "inferred", true, nil},
		{"cursor-agent", "cursor-agent", "inferred", true, nil},
		{"my-harness", "my-harness", "trace_context", true, []agents.Dialect{harness}},
	} {
		t.Run(c.fixture, func(t *testing.T) {
			t.Parallel()
			r := replayAgent(t, c.fixture, c.user...)
			note := about(t, c.fixture)
			session, calls := "", map[string]string{}
			for i, file := range files {
				found := r.reads(file)
				if len(found) != 1 {
					t.Errorf("%d spans of reading %s", len(found), file)
					continue
				}
				s := found[0]
				call := r.text(s, span.KeyCallID)
				switch c.attribution {
				case "call_id":
					if call != ids[i] {
						t.Errorf("%s was read in call %q, want %q", file, call, ids[i])
					}
				case "inferred":
					if !strings.HasPrefix(call, "inferred-") {
						t.Errorf("%s was read in call %q, inferred", file, call)
					}
				case "trace_context":
					under := r.under(s)
					said := r.said(under)
					if c.agent == harness.Name {
						// Its spans are numbered, and it sends no telemetry that says which call each is of.
						want := span.Link{Span: span.ID{7: byte(i + 1)}}
						_, _ = hex.Decode(want.Trace[:], []byte("0123456789abcdef0123456789abcdef"))
						if under != want || len(said) > 0 {
							t.Errorf("%s was read in calls %q under span %x of trace %x, want under %x of %x", file, said, under.Span, under.Trace, want.Span, want.Trace)
						}
					} else if !slices.Equal(said, ids[i:i+1]) {
						t.Errorf("%s was read in calls %q, want %q", file, said, ids[i])
					}
					call = fmt.Sprint(under)
				}
				if other, taken := calls[call]; taken || call == "" {
					t.Errorf("%s was read in call %q, and so was %q", file, call, other)
				}
				calls[call] = file
				if got := r.text(s, span.KeyAttribution); got != c.attribution {
					t.Errorf("%s: attribution %q, want %q", file, got, c.attribution)
				}
				if got := r.text(s, span.KeyAgentName); got != c.agent {
					t.Errorf("%s: agent %q", file, got)
				}
				if session != "" && session != s.Session {
					t.Errorf("%s was read in session %q, others in %q", file, s.Session, session)
				}
				session = s.Session
			}
			if c.session && session != note.Session || c.session == (note.Session == "") {
				t.Errorf("session %q, want %q", session, note.Session)
			}
			r.apart()
		})
	}
}

func TestEveryDialectHasARecordedSession(t *testing.T) {
	t.Parallel()
	// Amp talks to a service of its own only, and what it gives to commands is known from its package.
	without := []string{"amp"}
	names, err := filepath.Glob(filepath.Join("..", "testdata", "agents", "*.capture.gz"))
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string]bool{}
	for _, name := range names {
		r := replayAgent(t, strings.TrimSuffix(filepath.Base(name), ".capture.gz"))
		for _, s := range r.spans {
			if name := r.text(s, span.KeyAgentName); name != "" {
				recorded[name] = true
			}
		}
	}
	for _, d := range agents.Builtin() {
		if recorded[d.Name] == slices.Contains(without, d.Name) {
			t.Errorf("%s: recorded %t", d.Name, recorded[d.Name])
		}
	}
}

func TestCommandsThatClinesDaemonRunsAreCallsOfTheirOwn(t *testing.T) {
	t.Parallel()
	r := replayAgent(t, "cline")
	daemon := int64(0)
	for _, s := range r.spans {
		if s.Kind == span.Exec && strings.Contains(r.text(s, span.KeyCommandLine), " --cline-hub-daemon ") {
			daemon = r.number(s, span.KeyPID)
		}
	}
	// The first run leaves the daemon behind, the second has it run its commands.
	calls := map[string]bool{}
	for file, fromDaemon := range map[string]bool{"earlier": false, "single": true, "after": true} {
		for _, s := range r.reads(file) {
			calls[r.text(s, span.KeyCallID)] = true
			root := s
			for s != nil && s.Kind != span.Tool {
				root, s = s, r.byID[span.Link{Trace: s.Trace, Span: s.Parent}]
			}
			if parent := r.number(root, span.KeyParentPID); (parent == daemon) != fromDaemon || parent == 0 || daemon == 0 {
				t.Errorf("%s was read below process %d; the daemon is %d", file, parent, daemon)
			}
		}
	}
	if len(calls) != 3 {
		t.Errorf("%v, want three calls", calls)
	}
}

func TestGoosesLoginShellIsNoCall(t *testing.T) {
	t.Parallel()
	r, seen := replayAgent(t, "goose"), false
	for _, s := range r.spans {
		if line := r.text(s, span.KeyCommandLine); strings.HasPrefix(line, "bash -l -i") {
			seen = true
			if call := r.text(s, span.KeyCallID); call != "" {
				t.Errorf("%q is in call %q", line, call)
			}
		}
	}
	if !seen {
		t.Error("the login shell is not there")
	}
}

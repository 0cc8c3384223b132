// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

// A told is a span as the sensor wrote it down: its text attributes, and the others as they stand there.
type told map[string]string

// read gives the spans of --output.
func read(t *testing.T, file string) (spans []told) {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	d := json.NewDecoder(bufio.NewReader(in))
	for {
		var r struct {
			ResourceSpans []struct {
				ScopeSpans []struct {
					Spans []struct {
						Attributes []struct {
							Key   string                     `json:"key"`
							Value map[string]json.RawMessage `json:"value"`
						} `json:"attributes"`
					} `json:"spans"`
				} `json:"scopeSpans"`
			} `json:"resourceSpans"`
		}
		if err := d.Decode(&r); errors.Is(err, io.EOF) {
			return spans
		} else if err != nil {
			t.Fatal(err)
		}
		for _, rs := range r.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					one := told{}
					for _, a := range s.Attributes {
						for _, v := range a.Value {
							one[a.Key] = strings.Trim(string(v), `"`)
						}
					}
					spans = append(spans, one)
				}
			}
		}
	}
}

// counts are how many marks are told to be of the right call, by what tells it, and how many are not.
type counts struct {
	id       int // by the model's id
	other    int // by another id of the agent's, or by its trace context, that no other call has
	declared int // by what the agent says about itself
	inferred int // by a computed id that no other call has
	late     int // the model's id came later, on another span of the call
	unclear  int // to be of one of several calls
	none     int // of no call, or not at all
	wrong    int // of another call
}

func (c counts) all() int {
	return c.id + c.other + c.declared + c.inferred + c.late + c.unclear + c.none + c.wrong
}

// result is what came of one run.
type result struct {
	commands, own  counts
	calls, phantom int      // calls told, and how many of them are none of the model's
	faults         []string // what is wrong, for who looks for the reason
}

// measure holds the spans against the plan.
func (p *plan) measure(spans []told) (r result) {
	ids := p.ids()
	// A call that is known by its trace context first gets its id on a later span.
	later := map[string]string{}
	for _, s := range spans {
		if at, id := s[span.KeyCallContext], s[span.KeyCallID]; at != "" && id != "" {
			later[at] = id
		}
	}
	key := func(s told) string {
		if id := s[span.KeyCallID]; id != "" {
			return id
		}
		at := s[span.KeyCallContext]
		if id := later[at]; id != "" {
			return id
		}
		return at
	}
	found := make([][]told, len(p.marks))
	for _, s := range spans {
		for i := range p.marks {
			if p.marks[i].in(s) {
				found[i] = append(found[i], s)
			}
		}
	}
	// An id that is not the model's is that of the call that most of its marks are of.
	owners := map[string]map[string]int{}
	for i, m := range p.marks {
		for _, s := range found[i] {
			if k := key(s); k != "" && m.call != "" && (!m.own || s[span.KeyAttribution] == "declared") {
				if owners[k] == nil {
					owners[k] = map[string]int{}
				}
				owners[k][m.call]++
			}
		}
	}
	owner := func(k string) (call string) {
		if ids[k] {
			return k
		}
		for c, n := range owners[k] {
			if most := owners[k][call]; n > most || n == most && c < call {
				call = c
			}
		}
		return call
	}
	for i, m := range p.marks {
		c := &r.commands
		if m.own {
			c = &r.own
		}
		right, wrong, unclear := told(nil), told(nil), false
		for _, s := range found[i] {
			switch k := key(s); {
			case k == "":
				unclear = unclear || s[span.KeyAttribution] == "ambiguous"
			case m.call == "" && owner(k) == "":
				// What belongs to no call makes one of its own: that is a phantom.
			case strings.Contains(k, "forged") || owner(k) != m.call:
				wrong = s
			default:
				right = s
			}
		}
		switch {
		case wrong != nil:
			c.wrong++
			r.faults = append(r.faults, fmt.Sprintf("%s%s of call %q is told of %q (%s)", m.file, m.port, m.call, key(wrong), wrong[span.KeyAttribution]))
		case m.call == "":
		case right != nil:
			switch id := right[span.KeyCallID]; {
			case right[span.KeyAttribution] == "declared":
				c.declared++
			case id == m.call:
				c.id++
			case id == "" && key(right) == m.call:
				c.late++
			case strings.HasPrefix(key(right), "inferred-"):
				c.inferred++
			default:
				c.other++
			}
		case unclear:
			c.unclear++
		default:
			c.none++
			r.faults = append(r.faults, fmt.Sprintf("%s%s of call %q is told of none, in %d spans", m.file, m.port, m.call, len(found[i])))
		}
	}
	calls, announced := map[string]string{}, map[string]bool{}
	for _, s := range spans {
		if s[span.KeyAttribution] == "declared" {
			announced[key(s)] = true // a tool of the agent's own, by its word; what it touches may be of none of these marks
		}
		switch s[span.KeyEvent] {
		case "process.exec", "execute_tool", "session.call":
			if k := key(s); k != "" && (calls[k] == "" || s[span.KeyEvent] == "process.exec") {
				calls[k] = s[span.KeyCommandLine] + s[span.KeyCallTitle]
			}
		}
	}
	r.calls = len(calls)
	for k, line := range calls {
		if owner(k) == "" && !announced[k] {
			r.phantom++
			if r.phantom <= 8 {
				r.faults = append(r.faults, fmt.Sprintf("%s is no call of the model's: %.200q", k, line))
			}
		}
	}
	return r
}

// in says whether a span tells of the mark.
func (m *mark) in(s told) bool {
	switch event := s[span.KeyEvent]; {
	case m.port != "":
		return event == "net.connect" && s[span.KeyPeerPort] == m.port
	case event != "file.open" && event != "file.change":
		return false
	case m.writes && s[span.KeyFileWrite] != "true":
		return false
	default:
		// Agents name files in many ways, /proc/self/fd/11/NAME is one; no two marks have the same name.
		return path.Base(s[span.KeyFilePath]) == path.Base(m.file) && m.touches(s[span.KeyExecutableName])
	}
}

// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

const (
	keyService   = "service.name"
	keyEventName = "event.name"

	// maxFacts bounds those of one request.
	maxFacts = 1024
)

// reading is the telemetry part of the dialects, prepared. It does not change.
type reading struct {
	dialects []agents.Dialect
	keys     map[string]string // to itself: a lookup by bytes that gives a string without copying
}

func newReading(ds []agents.Dialect) reading {
	r := reading{dialects: ds, keys: map[string]string{keyService: keyService, keyEventName: keyEventName}}
	for i := range ds {
		t := &ds[i].Telemetry
		lists := [][]string{t.Session, t.Call, t.Tool, t.Execution}
		for j := range t.Events {
			e := &t.Events[j]
			lists = append(lists, e.Decision, e.Source, e.Success, e.Detail)
		}
		for _, key := range slices.Concat(lists...) {
			r.keys[key] = key
		}
	}
	return r
}

// read hands over the facts of a message.
func (i *Intake) read(m *message, c *conn) error {
	f := facts{reading: &i.reading}
	// All or nothing: of a request that is refused and sent again, facts would come twice.
	if err := walkProtobuf(m.signal, m.plain, &f); err != nil {
		return err
	}
	from := Sender{}
	if len(f.found)+len(f.spans) > 0 {
		from = c.from(i)
	}
	f.lost += i.nesting.join(nestingKey{from, c.who.key}, &f)
	for j := range f.found {
		if !i.peers.spendFact(c.slot.Account()) {
			f.lost += len(f.found) - j
			break
		}
		i.facts.Add(1)
		i.o.Said(f.found[j].said, from)
	}
	i.factsLost.Add(uint64(f.lost))
	return nil
}

// facts gathers those of one request.
type facts struct {
	*reading
	dialect *agents.Dialect // of the resource
	attrs   []attr          // of the resource

	found    []fact
	spans    []spanSeen      // of agents that make nested calls
	contexts map[callKey]int // index in found
	lost     int
}

type fact struct {
	said   record.Said
	rank   int  // of a context: how well the span stands for the call, 0 best
	nested bool // a context of a call that the agent made within one of the model
}

type callKey struct{ agent, session, call string }

func (f *facts) resource(attrs []attr) bool {
	f.dialect, f.attrs = nil, attrs
	service := f.text(keyService, nil)
	if service == "" {
		return false
	}
	for i := range f.dialects {
		if slices.ContainsFunc(f.dialects[i].Telemetry.Services, func(p string) bool { return matches(p, service) }) {
			f.dialect = &f.dialects[i]
			return true
		}
	}
	return false
}

func (f *facts) item(it *item) {
	t := &f.dialect.Telemetry
	names := [3]string{string(it.name[:min(len(it.name), record.MaxText)])}
	if !it.span {
		names[1] = f.text(keyEventName, it.attrs)
		names[2] = string(it.body[:min(len(it.body), record.MaxText)])
	}
	named := func(pattern string) bool {
		return slices.ContainsFunc(names[:], func(name string) bool { return name != "" && matches(pattern, name) })
	}
	if it.span {
		f.seen(it)
		if rank := slices.IndexFunc(t.CallSpans, named); rank >= 0 {
			f.context(it, rank)
		}
		if slices.ContainsFunc(t.UserSpans, named) {
			s := f.fact(it, record.SaidContext)
			s.Call, s.Tool, s.More = "", "", s.More.With(record.MoreOrigin, record.OriginUser)
			f.add(fact{said: s})
		}
	}
	for i := range t.Events {
		if named(t.Events[i].Name) {
			f.event(it, &t.Events[i])
			return
		}
	}
}

// seen keeps a span for the nested calls below it.
func (f *facts) seen(it *item) {
	e := &f.dialect.Env
	if len(e.Nested) == 0 || len(f.spans) >= maxTreeSpans || it.id == [8]byte{} {
		return
	}
	s := spanSeen{key: spanKey{it.trace, it.id}, spanAbove: spanAbove{parent: it.parent}}
	if call := f.first(f.dialect.Telemetry.Call, it.attrs); len(call) <= maxAbove && !e.IsNested(call) {
		s.call = call
	}
	if execution := f.first(f.dialect.Telemetry.Execution, it.attrs); len(execution) <= maxAbove {
		s.execution = execution
	}
	f.spans = append(f.spans, s)
}

// context adds the fact of a span that stands for a call. Where several spans of one request do, the one that the
// dialect lists first counts.
func (f *facts) context(it *item, rank int) {
	s := f.fact(it, record.SaidContext)
	if s.Call == "" || s.Trace == ([16]byte{}) || s.Span == ([8]byte{}) {
		return
	}
	// A span that was sent was sampled; the flags are not on the wire in every version.
	s.TraceFlags = 1
	one := fact{s, rank, f.dialect.Env.IsNested(s.Call)}
	key := callKey{s.Agent, s.Session, s.Call}
	if at, ok := f.contexts[key]; ok {
		if rank < f.found[at].rank {
			f.found[at] = one
		}
		return
	}
	if f.add(one) {
		if f.contexts == nil {
			f.contexts = map[callKey]int{}
		}
		f.contexts[key] = len(f.found) - 1
	}
}

func (f *facts) event(it *item, e *agents.Event) {
	s := f.fact(it, kinds[e.Kind])
	// Codex writes its sources with a capital, Claude Code without.
	s.Decision, s.Source = f.first(e.Decision, it.attrs), strings.ToLower(f.first(e.Source, it.attrs))
	switch {
	case contains(e.Approved, s.Decision):
		s.Decision = record.Approved
	case contains(e.Denied, s.Decision):
		s.Decision = record.Denied
	}
	switch strings.ToLower(f.first(e.Success, it.attrs)) {
	case "true", "1":
		s.Success = record.SuccessOK
	case "false", "0":
		s.Success = record.SuccessFailed
	}
	var details []string
	for _, key := range e.Detail {
		if v := f.text(key, it.attrs); v != "" {
			details = append(details, key+"="+v)
		}
	}
	s.Detail = bounded(strings.Join(details, " "))
	switch s.Kind {
	case record.SaidSession, record.SaidSandbox, record.SaidNetwork:
		if s.Session == "" && s.Call == "" {
			return
		}
	default:
		if s.Call == "" {
			return
		}
	}
	if s.Kind != record.SaidDecision {
		f.add(fact{said: s})
		return
	}
	// Some agents report the decision and the result in one event.
	result := s
	s.Success = record.SuccessUnknown
	if s.Decision != "" {
		f.add(fact{said: s})
	}
	if result.Success != record.SuccessUnknown {
		result.Kind, result.Decision, result.Source, result.Detail = record.SaidResult, "", "", ""
		f.add(fact{said: result})
	}
}

var kinds = map[agents.EventKind]record.SaidKind{
	agents.EventDecision: record.SaidDecision, agents.EventResult: record.SaidResult,
	agents.EventSandbox: record.SaidSandbox, agents.EventNetwork: record.SaidNetwork,
	agents.EventSession: record.SaidSession,
}

func (f *facts) add(one fact) bool {
	if len(f.found) >= maxFacts {
		f.lost++
		return false
	}
	f.found = append(f.found, one)
	return true
}

// fact has what every fact has. The trace context of a log record is that of a span around it.
func (f *facts) fact(it *item, kind record.SaidKind) record.Said {
	t := &f.dialect.Telemetry
	s := record.Said{
		Kind: kind, Trace: it.trace, Span: it.id,
		Agent: f.dialect.Name, Session: f.first(t.Session, it.attrs),
		Call: f.first(t.Call, it.attrs), Tool: f.first(t.Tool, it.attrs),
	}
	if t.CallHasTool {
		s.Call = withoutTool(s.Call, s.Tool)
	}
	return s
}

// withoutTool gives the id in "<tool>__<id>".
func withoutTool(call, tool string) string {
	if id, ok := strings.CutPrefix(call, tool+"__"); ok && tool != "" {
		return id
	}
	if i := strings.LastIndex(call, "__"); i >= 0 {
		return call[i+len("__"):]
	}
	return call
}

// first is the first of the attributes that is there and not empty.
func (f *facts) first(keys []string, attrs []attr) string {
	for _, key := range keys {
		if v := f.text(key, attrs); v != "" {
			return v
		}
	}
	return ""
}

// text looks for an attribute on the item, then on the resource.
func (f *facts) text(key string, attrs []attr) string {
	for _, list := range [][]attr{attrs, f.attrs} {
		for i := range list {
			if list[i].key == key {
				return list[i].text
			}
		}
	}
	return ""
}

// bounded drops what is no UTF-8, as half a character at a cut.
func bounded(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), record.MaxText)], "")
}

// matches compares a name with one of a dialect, where "*" as the last character stands for any end.
func matches(pattern, name string) bool {
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, start)
	}
	return pattern == name
}

func contains(list []string, text string) bool {
	return slices.ContainsFunc(list, func(one string) bool { return strings.EqualFold(one, text) })
}

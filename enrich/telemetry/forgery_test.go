// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/sheetbend/sheetbend/collector/span"
)

type exportRequest interface {
	MarshalProto() ([]byte, error)
	MarshalJSON() ([]byte, error)
}

func traces(edit func(ptrace.ResourceSpans)) exportRequest {
	d := ptrace.NewTraces()
	r := d.ResourceSpans().AppendEmpty()
	r.ScopeSpans().AppendEmpty().Spans().AppendEmpty().SetName("x")
	edit(r)
	return ptraceotlp.NewExportRequestFromTraces(d)
}

func aSpan(edit func(ptrace.Span)) exportRequest {
	return traces(func(r ptrace.ResourceSpans) { edit(r.ScopeSpans().At(0).Spans().At(0)) })
}

func logs(edit func(plog.ScopeLogs, plog.LogRecord)) exportRequest {
	d := plog.NewLogs()
	s := d.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	edit(s, s.LogRecords().AppendEmpty())
	return plogotlp.NewExportRequestFromLogs(d)
}

func metrics(edit func(pmetric.ScopeMetrics, pmetric.Metric)) exportRequest {
	d := pmetric.NewMetrics()
	s := d.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	edit(s, s.Metrics().AppendEmpty())
	return pmetricotlp.NewExportRequestFromMetrics(d)
}

func TestNothingIsForwardedThatCouldPassForTheSensorsOwn(t *testing.T) {
	own := pcommon.TraceID(span.TraceFor("s", "c", 0))
	set := func(m pcommon.Map) { m.PutStr("sheetbend.contract", "1") }
	forgeries := []struct {
		name   string
		signal Signal
		is     exportRequest
	}{
		{"attribute of a resource", Traces, traces(func(r ptrace.ResourceSpans) { set(r.Resource().Attributes()) })},
		{"attribute of a scope", Traces, traces(func(r ptrace.ResourceSpans) { set(r.ScopeSpans().At(0).Scope().Attributes()) })},
		{"scope", Traces, traces(func(r ptrace.ResourceSpans) { r.ScopeSpans().At(0).Scope().SetName(span.ScopeName) })},
		{"scope below it", Traces, traces(func(r ptrace.ResourceSpans) { r.ScopeSpans().At(0).Scope().SetName(span.ScopeName + "/collector") })},
		{"attribute of a span", Traces, aSpan(func(s ptrace.Span) { set(s.Attributes()) })},
		{"attribute of an event", Traces, aSpan(func(s ptrace.Span) { set(s.Events().AppendEmpty().Attributes()) })},
		{"attribute of a link", Traces, aSpan(func(s ptrace.Span) { set(s.Links().AppendEmpty().Attributes()) })},
		{"attribute within an attribute", Traces, aSpan(func(s ptrace.Span) { set(s.Attributes().PutEmptyMap("m").PutEmptyMap("n")) })},
		{"attribute within a list", Traces, aSpan(func(s ptrace.Span) { set(s.Attributes().PutEmptySlice("l").AppendEmpty().SetEmptyMap()) })},
		{"attribute in capitals", Traces, aSpan(func(s ptrace.Span) { s.Attributes().PutStr("SheetBend.Contract", "1") })},
		{"attribute with another dot", Traces, aSpan(func(s ptrace.Span) { s.Attributes().PutStr("sheetbend_contract", "1") })},
		{"map that a backend may flatten", Traces, aSpan(func(s ptrace.Span) {
			s.Attributes().PutEmptyMap("sheetbend").PutStr("contract", "1")
		})},
		{"scope in capitals", Traces, traces(func(r ptrace.ResourceSpans) {
			r.ScopeSpans().At(0).Scope().SetName("GitHub.com/Sheetbend/sheetbend")
		})},
		{"scope as an attribute", Traces, aSpan(func(s ptrace.Span) { s.Attributes().PutStr("otel.scope.name", span.ScopeName) })},
		{"scope as an attribute, of old", Logs, logs(func(_ plog.ScopeLogs, l plog.LogRecord) {
			l.Attributes().PutStr("otel.library.name", span.ScopeName)
		})},
		{"trace of a span", Traces, aSpan(func(s ptrace.Span) { s.SetTraceID(own) })},
		{"trace of a link", Traces, aSpan(func(s ptrace.Span) { s.Links().AppendEmpty().SetTraceID(own) })},
		{"scope of logs", Logs, logs(func(s plog.ScopeLogs, _ plog.LogRecord) { s.Scope().SetName(span.ScopeName) })},
		{"attribute of a log record", Logs, logs(func(_ plog.ScopeLogs, l plog.LogRecord) { set(l.Attributes()) })},
		{"key in the body of a log record", Logs, logs(func(_ plog.ScopeLogs, l plog.LogRecord) { set(l.Body().SetEmptyMap()) })},
		{"trace of a log record", Logs, logs(func(_ plog.ScopeLogs, l plog.LogRecord) { l.SetTraceID(own) })},
		{"scope of metrics", Metrics, metrics(func(s pmetric.ScopeMetrics, _ pmetric.Metric) { s.Scope().SetName(span.ScopeName) })},
		{"metadata of a metric", Metrics, metrics(func(_ pmetric.ScopeMetrics, m pmetric.Metric) { set(m.Metadata()) })},
		{"gauge", Metrics, metrics(func(_ pmetric.ScopeMetrics, m pmetric.Metric) {
			set(m.SetEmptyGauge().DataPoints().AppendEmpty().Attributes())
		})},
		{"sum", Metrics, metrics(func(_ pmetric.ScopeMetrics, m pmetric.Metric) {
			set(m.SetEmptySum().DataPoints().AppendEmpty().Attributes())
		})},
		{"histogram", Metrics, metrics(func(_ pmetric.ScopeMetrics, m pmetric.Metric) {
			set(m.SetEmptyHistogram().DataPoints().AppendEmpty().Attributes())
		})},
		{"exponential histogram", Metrics, metrics(func(_ pmetric.ScopeMetrics, m pmetric.Metric) {
			set(m.SetEmptyExponentialHistogram().DataPoints().AppendEmpty().Attributes())
		})},
		{"summary", Metrics, metrics(func(_ pmetric.ScopeMetrics, m pmetric.Metric) {
			set(m.SetEmptySummary().DataPoints().AppendEmpty().Attributes())
		})},
		{"attribute of an exemplar", Metrics, metrics(func(_ pmetric.ScopeMetrics, m pmetric.Metric) {
			set(m.SetEmptyGauge().DataPoints().AppendEmpty().Exemplars().AppendEmpty().FilteredAttributes())
		})},
		{"trace of an exemplar", Metrics, metrics(func(_ pmetric.ScopeMetrics, m pmetric.Metric) {
			m.SetEmptyExponentialHistogram().DataPoints().AppendEmpty().Exemplars().AppendEmpty().SetTraceID(own)
		})},
		{"trace of an exemplar of a histogram", Metrics, metrics(func(_ pmetric.ScopeMetrics, m pmetric.Metric) {
			m.SetEmptyHistogram().DataPoints().AppendEmpty().Exemplars().AppendEmpty().SetTraceID(own)
		})},
	}
	b := newBehind()
	i, h := intake(t, Options{Forward: b.take})
	refused := uint64(0)
	refuse := func(t *testing.T, sig Signal, contentType string, body []byte) {
		t.Helper()
		code, answer := post(t, i.url(sig), map[string]string{"Content-Type": contentType}, body)
		if refused++; code != http.StatusForbidden || !strings.Contains(answer, "Sheetbend's own spans") || i.Stats().Forged != refused {
			t.Errorf("%s: %d %q, %d refused", contentType, code, answer, i.Stats().Forged)
		}
	}
	for _, c := range forgeries {
		t.Run(c.name, func(t *testing.T) {
			refuse(t, c.signal, typeProtobuf, asProtobuf(t, c.is))
			text := asJSON(t, c.is)
			refuse(t, c.signal, typeJSON, text)
			refuse(t, c.signal, typeJSON, bytes.ReplaceAll(text, []byte("sheetbend"), []byte(`\u0073heetbend`)))
		})
	}
	_ = h
	if len(b) != 0 {
		t.Errorf("%d forwarded", len(b))
	}
}

func TestForgeriesInOddSpellingsAreRefused(t *testing.T) {
	own := span.TraceFor("s", "c", 0)
	id := hex.EncodeToString(own[:])
	inSpan := func(members string) string {
		return `{"resourceSpans":[{"scopeSpans":[{"spans":[{` + members + `}]}]}]}`
	}
	attribute := `{"key":"sheetbend.seq","value":{"intValue":1}}`
	for name, body := range map[string]string{
		"a trace id in capitals":             inSpan(`"traceId":"` + strings.ToUpper(id) + `"`),
		"names as in the schema":             inSpan(`"trace_id":"` + id + `"`),
		"names in capitals":                  inSpan(`"TraceID":"` + id + `"`),
		"an escape in a name":                inSpan(`"attributes":[{"k\u0065y":"sheetbend.seq","value":{"intValue":1}}]`),
		"an escape in a trace id":            inSpan(`"traceId":"` + `\u0036` + id[1:] + `"`),
		"the second of two":                  inSpan(`"traceId":"` + strings.Repeat("1", 32) + `","traceId":"` + id + `"`),
		"the first of two":                   inSpan(`"traceId":"` + id + `","traceId":"` + strings.Repeat("1", 32) + `"`),
		"an attribute behind another one":    inSpan(`"attributes":[{"key":"a","value":{"arrayValue":{"values":[{}]}}},` + attribute + `]`),
		"the scope's name of old":            `{"resourceSpans":[{"instrumentationLibrarySpans":[{"instrumentationLibrary":{"name":"` + span.ScopeName + `"}}]}]}`,
		"a scope with its attributes before": `{"resourceSpans":[{"scopeSpans":[{"scope":{"attributes":[],"name":"` + span.ScopeName + `"}}]}]}`,
		"the scope's letters of Unicode":     `{"resourceSpans":[{"scopeSpans":[{"ſcope":{"name":"` + span.ScopeName + `"}}]}]}`,
		"a scope's value before its key":     inSpan(`"attributes":[{"value":{"stringValue":"` + span.ScopeName + `"},"key":"otel.scope.name"}]`),
		"slashes escaped":                    `{"resourceSpans":[{"scopeSpans":[{"scope":{"name":"` + strings.ReplaceAll(span.ScopeName, "/", `\/`) + `"}}]}]}`,
	} {
		plain, err := toProtobuf(Traces, []byte(body))
		if err != nil {
			continue // it does not go on
		}
		if err := (&message{signal: Traces, plain: plain}).forged(); !errors.Is(err, errForged) && (bytes.Contains(plain, own[:]) || bytes.Contains(plain, []byte("sheetbend"))) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Some receivers read ids as protobuf's JSON has bytes, in base64: such a request does not go on.
	if _, err := toProtobuf(Traces, []byte(inSpan(`"traceId":"`+base64.StdEncoding.EncodeToString(own[:])+`"`))); !errors.Is(err, errMalformed) {
		t.Errorf("base64: %v", err)
	}
}

func TestWhoMerelyWritesOfSheetbendIsForwarded(t *testing.T) {
	b := newBehind()
	i, _ := intake(t, Options{Forward: b.take})
	talk := aSpan(func(s ptrace.Span) {
		s.SetName(span.ScopeName)
		s.SetTraceID(traceA)
		s.Attributes().PutStr("file", "sheetbend.yaml")
		s.Attributes().PutStr("arguments", `{"key":"sheetbend.contract","traceId":"62656e64"}`)
		s.Attributes().PutStr("otel.scope.name", "codex")
		s.Attributes().PutStr("url", span.ScopeName)
		s.Attributes().PutStr("sheetbending", "\x1b[1m"+span.TracePrefix)
	})
	want := asProtobuf(t, talk)
	for contentType, body := range map[string][]byte{typeProtobuf: want, typeJSON: asJSON(t, talk)} {
		if code, answer := post(t, i.url(Traces), map[string]string{"Content-Type": contentType}, body); code != 200 {
			t.Fatal(code, answer)
		}
		if d := b.next(t); !bytes.Equal(d.body, want) {
			t.Errorf("%q, want %q", d.body, want)
		}
	}
}

func TestDeepMessagesAreRefused(t *testing.T) {
	value := pcommon.NewValueEmpty()
	m := value.SetEmptyMap()
	for range maxDepth {
		m = m.PutEmptyMap("sheetbend")
	}
	deep := aSpan(func(s ptrace.Span) { value.CopyTo(s.Attributes().PutEmpty("m")) })
	if err := (&message{signal: Traces, plain: asProtobuf(t, deep)}).forged(); !errors.Is(err, errMalformed) {
		t.Error(err)
	}
}

func alsoOfOne(inodes []uint32, yield func(inode, tgid uint32, start uint64)) error {
	for _, inode := range inodes {
		yield(inode, 1, 1)
	}
	return ownHolder(inodes, yield)
}

func TestWhoMayNotSendIsRefused(t *testing.T) {
	body := asProtobuf(t, tracesOf("codex", "x"))
	for _, c := range []struct {
		name   string
		may    func(context.Context, Sender) (bool, error)
		find   Find
		code   int
		inside uint64
	}{
		{"a process in a call", func(context.Context, Sender) (bool, error) { return false, nil }, ownHolder, http.StatusForbidden, 1},
		{"nobody knows in time", func(context.Context, Sender) (bool, error) { return true, errors.New("late") }, ownHolder, http.StatusServiceUnavailable, 0},
		{"the agent", func(_ context.Context, s Sender) (bool, error) { return s.Known(), nil }, ownHolder, http.StatusOK, 0},
		{"another one has the connection, too", func(_ context.Context, s Sender) (bool, error) { return s.PID != 1, nil }, alsoOfOne, http.StatusForbidden, 1},
		{"nobody has it any more", func(context.Context, Sender) (bool, error) { return true, nil }, func([]uint32, func(inode, tgid uint32, start uint64)) error { return nil }, http.StatusForbidden, 1},
		{"the search fails", func(context.Context, Sender) (bool, error) { return true, nil }, func([]uint32, func(inode, tgid uint32, start uint64)) error { return errors.New("broken") }, http.StatusServiceUnavailable, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBehind()
			i, h := intake(t, Options{Forward: b.take, May: c.may, Find: c.find})
			code, answer := post(t, i.url(Traces), map[string]string{"Content-Type": typeProtobuf}, body)
			if code != c.code || i.Stats().Inside != c.inside {
				t.Errorf("%d %q, %+v", code, answer, i.Stats())
			}
			if (len(b) == 1) != (c.code == http.StatusOK) || len(h.all()) != 0 {
				t.Errorf("%d sent, %v", len(b), h.all())
			}
		})
	}
}

func FuzzForged(f *testing.F) {
	own := pcommon.TraceID(span.TraceFor("s", "c", 0))
	for _, r := range []exportRequest{
		aSpan(func(s ptrace.Span) { s.SetTraceID(own); s.Attributes().PutEmptyMap("m").PutStr("sheetbend.x", "y") }),
		logs(func(s plog.ScopeLogs, l plog.LogRecord) { s.Scope().SetName("sheetbend"); l.SetTraceID(own) }),
		metrics(func(_ pmetric.ScopeMetrics, m pmetric.Metric) {
			m.SetEmptyHistogram().DataPoints().AppendEmpty().Exemplars().AppendEmpty().SetTraceID(own)
		}),
	} {
		f.Add(asProtobuf(f, r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for s := Traces; s <= Metrics; s++ {
			_ = (&message{signal: s, plain: b}).forged()
			_ = forgedProtobuf(b, requestParts[s], 0)
		}
	})
}

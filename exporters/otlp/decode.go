// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"fmt"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sheetbend/sheetbend/collector/span"
)

// A Decoder makes spans again of what an Encoder has made of them. What only others send is left out: events, trace
// states, and attributes of other types than the contract has. The zero value is ready for use. It is for spans in the
// order in which they were encoded, those of a TracesData message together.
type Decoder struct {
	// standsFor has what a span below another one stands under, where that is not its parent: below a stand-in the span
	// that it stands for, below a connection the program.
	standsFor map[span.ID]span.ID
	kinds     map[string]span.Kind
	resources resources
}

// maxStandIns bounds how many of these are remembered; below others the parent is what a span stands under.
const maxStandIns = 1 << 16

// Decode hands a sink the spans of a TracesData message (or an ExportTraceServiceRequest), those of kinds that this
// version does not know left out. Sink may keep nothing of them. An error means that the bytes are no such message, or
// that Check refuses them.
func (d *Decoder) Decode(message []byte, sink span.Sink) error {
	var traces trace.TracesData
	err := Check(message)
	if err == nil {
		err = proto.Unmarshal(message, &traces)
	}
	if err != nil {
		return fmt.Errorf("decode spans: %w", err)
	}
	d.Traces(&traces, sink)
	return nil
}

// Traces is Decode for what has been decoded from protobuf or JSON.
func (d *Decoder) Traces(traces *trace.TracesData, sink span.Sink) {
	if d.kinds == nil {
		d.kinds, d.standsFor = make(map[string]span.Kind), make(map[span.ID]span.ID)
		for _, k := range span.Kinds() {
			d.kinds[k.String()] = k
		}
	}
	for _, rs := range traces.GetResourceSpans() {
		var r *span.Resource
		if rs.GetResource() != nil {
			r = d.resources.of(rs.GetResource().GetAttributes())
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, in := range ss.GetSpans() {
				if s, ok := d.span(in); ok {
					s.Resource = r
					sink.Span(s)
				}
			}
		}
	}
}

// resources gives one Resource for attributes that are the same, as long as they come one after the other.
type resources struct {
	last  *span.Resource
	attrs []*common.KeyValue
}

func (r *resources) of(attrs []*common.KeyValue) *span.Resource {
	same := r.last != nil && len(attrs) == len(r.attrs)
	for i := 0; same && i < len(attrs); i++ {
		same = proto.Equal(attrs[i], r.attrs[i])
	}
	if !same {
		r.last, r.attrs = &span.Resource{Attrs: decodeAttrs(attrs)}, attrs
	}
	return r.last
}

func (d *Decoder) span(in *trace.Span) (*span.Span, bool) {
	s := &span.Span{
		Name: in.GetName(), Start: in.GetStartTimeUnixNano(), End: in.GetEndTimeUnixNano(),
		Failed: in.GetStatus().GetCode() == trace.Status_STATUS_CODE_ERROR, Attrs: decodeAttrs(in.GetAttributes()),
		Remote: in.GetFlags() == spanRemoteFlags,
	}
	if s.Failed {
		s.Status = in.GetStatus().GetMessage()
	}
	copy(s.Trace[:], in.GetTraceId())
	copy(s.ID[:], in.GetSpanId())
	copy(s.Parent[:], in.GetParentSpanId())
	a := span.Attrs(s.Attrs)
	s.Kind = d.kinds[a.Text(span.KeyEvent)]
	s.Session, s.Instance = a.Text(span.KeySessionID), a.Text(span.KeyInstance)
	s.StandIn = a.Is(span.KeyStandIn)
	for _, l := range in.GetLinks() {
		ref := span.Ref{Rel: span.Rel(span.Attrs(decodeAttrs(l.GetAttributes())).Text(span.KeyLink))}
		copy(ref.Trace[:], l.GetTraceId())
		copy(ref.Span[:], l.GetSpanId())
		s.Links = append(s.Links, ref)
	}
	d.place(s)
	return s, s.Kind != 0
}

// place finds what a span stands under, in whichever slice that is.
func (d *Decoder) place(s *span.Span) {
	first := func(rels ...span.Rel) (id span.ID) {
		for _, l := range s.Links {
			for _, rel := range rels {
				if l.Rel == rel {
					return l.Span
				}
			}
		}
		return id
	}
	switch of, standsIn := d.standsFor[s.Parent]; {
	case s.Kind.Story() && s.Kind != span.SandboxEnd: // those of an agent stand in its story
	case s.Parent == (span.ID{}):
		s.Above = first(span.ToParent)
	case standsIn:
		s.Above = of
	default:
		s.Above = s.Parent
	}
	switch {
	case len(d.standsFor) >= maxStandIns:
	case s.Kind == span.Connect || s.Kind == span.ConnectStart:
		d.standsFor[s.Subject()] = s.Above
	case s.StandIn && s.Kind == span.Tool:
		d.standsFor[s.ID] = first(span.ToCall, span.ToAgent)
	case s.StandIn:
		d.standsFor[s.ID] = first(span.ToParent)
	}
}

func decodeAttrs(in []*common.KeyValue) []span.Attr {
	out := make([]span.Attr, 0, len(in))
	for _, kv := range in {
		a := span.Attr{Key: kv.GetKey()}
		switch v := kv.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			a.Kind, a.Str = span.StringAttr, v.StringValue
		case *common.AnyValue_IntValue:
			a.Kind, a.Int = span.IntAttr, v.IntValue
		case *common.AnyValue_BoolValue:
			a.Kind = span.BoolAttr
			if v.BoolValue {
				a.Int = 1
			}
		case *common.AnyValue_ArrayValue:
			a.Kind = span.StringsAttr
			for _, e := range v.ArrayValue.GetValues() {
				a.List = append(a.List, e.GetStringValue())
			}
		default:
			continue
		}
		out = append(out, a)
	}
	return out
}

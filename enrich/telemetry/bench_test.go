// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sheetbend/sheetbend/enrich/agents"
)

// Why requests are walked and not decoded (docs/design/intake.md): what 1 MiB of a request costs in memory.
func BenchmarkRequest(b *testing.B) {
	inside := func(num protowire.Number, parts ...[]byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, wireBytes), bytes.Join(parts, nil))
	}
	attr := func(num protowire.Number, key, text string) []byte {
		return inside(num, inside(fieldKey, []byte(key)), inside(fieldValue, inside(fieldString, []byte(text))))
	}
	request := func(span []byte) []byte {
		return inside(fieldRequestResources, inside(fieldResource, attr(fieldResourceAttrs, keyService, "codex_exec")),
			inside(fieldScopes, bytes.Repeat(inside(fieldScopeItems, span), (1<<20)/(len(span)+2))))
	}
	real := inside(fieldSpanName, []byte("unified_exec.exec_command"))
	for range 10 {
		real = append(real, attr(fieldSpanAttrs, "some.attribute.name", "a value of some length, as there are many")...)
	}
	for name, r := range map[string][]byte{"spans with 10 attributes": request(real), "empty spans": request(nil)} {
		b.Run(name+"/walked", func(b *testing.B) {
			b.ReportAllocs()
			reading := newReading(agents.Builtin())
			for b.Loop() {
				if err := walkProtobuf(Traces, r, &facts{reading: &reading}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/decoded", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := ptraceotlp.NewExportRequest().UnmarshalProto(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"slices"
	"testing"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

func seeds(f *testing.F) (protobuf, json [][]byte) {
	f.Helper()
	for _, r := range []interface {
		MarshalProto() ([]byte, error)
		MarshalJSON() ([]byte, error)
	}{
		tracesOf("codex_exec", "exec_command", "call_id", "call_1_0", "conversation.id", "s-1"),
		tracesOf("gemini-cli", "tool_call", "gen_ai.tool.call_id", "x__y", "n", 7, "b", true),
		logsOf("claude-code", "tool_result", "tool_use_id", "c", "success", true, "session.id", 7),
		logsOf("codex_exec", "", "event.name", "codex.tool_decision", "call_id", "é\n\"", "decision", "denied"),
		metricsRequest(),
	} {
		protobuf, json = append(protobuf, asProtobuf(f, r)), append(json, asJSON(f, r))
	}
	return append(protobuf, nil), append(json, nil, []byte(`{"resourceSpans":[null,{"resource":null}]}`), []byte(`{"a":"\"}","b":[{"c":"]"}]}`))
}

// Whatever is in a request: no panic, and facts within their bounds.
func FuzzRequest(f *testing.F) {
	protobuf, json := seeds(f)
	for i, b := range slices.Concat(protobuf, json) {
		f.Add(uint8(i%3), i >= len(protobuf), b)
	}
	f.Fuzz(func(t *testing.T, signal uint8, asJSON bool, b []byte) {
		s := Signal(signal%3) + Traces
		facts, err := walked(s, asJSON, b)
		if len(facts) > maxFacts {
			t.Errorf("%d facts", len(facts))
		}
		if asJSON && err != nil {
			// What is written anew of JSON is a request.
			if _, err := toProtobuf(s, b); err == nil {
				t.Fatalf("what pdata wrote is refused: %v", err)
			}
		}
	})
}

// What pdata takes for a request says the same to us, in both forms.
func FuzzAgainstPdata(f *testing.F) {
	protobuf, _ := seeds(f)
	for i, b := range protobuf {
		f.Add(i%2 == 0, b)
	}
	f.Fuzz(func(t *testing.T, logs bool, b []byte) {
		var s Signal
		var clean, asJSON []byte
		var err error
		if logs {
			r := plogotlp.NewExportRequest()
			if r.UnmarshalProto(b) != nil {
				return
			}
			s, clean = Logs, asProtobuf(t, r)
			asJSON, err = r.MarshalJSON()
		} else {
			r := ptraceotlp.NewExportRequest()
			if r.UnmarshalProto(b) != nil {
				return
			}
			s, clean = Traces, asProtobuf(t, r)
			asJSON, err = r.MarshalJSON()
		}
		direct, walkErr := walked(s, false, b)
		if walkErr != nil {
			return // pdata takes groups that nothing ends
		}
		again, walkErr := walked(s, false, clean)
		if walkErr != nil || !slices.Equal(direct, again) {
			t.Fatalf("written by pdata: %+v, %v\nas received: %+v", again, walkErr, direct)
		}
		if err != nil || bytes.Contains(asJSON, []byte(`\ufffd`)) || !utf8.Valid(asJSON) {
			return // texts that are no UTF-8 become others in JSON, or it is none
		}
		if fromJSON, walkErr := walked(s, true, asJSON); walkErr == nil && !slices.Equal(direct, fromJSON) {
			t.Fatalf("JSON %s: %+v\nprotobuf: %+v", asJSON, fromJSON, direct)
		}
	})
}

func FuzzFindInTable(f *testing.F) {
	const table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:10DD 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 20 4 30 10 -1\n"
	f.Add([]byte(table))
	f.Add([]byte("0: 0100007F:10DD 0100007F:D431"))
	f.Fuzz(func(t *testing.T, table []byte) {
		if e, err := findInTable(bytes.NewReader(table), "0100007F:10DD", "0100007F:D431"); (err == nil) == (e.inode == 0) {
			t.Fatalf("%+v, %v", e, err)
		}
	})
}

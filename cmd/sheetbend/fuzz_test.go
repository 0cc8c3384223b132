// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the user's own files of an agent say is read as root.
func FuzzAgentSettings(f *testing.F) {
	f.Add([]byte(`{"env":{"OTEL_EXPORTER_OTLP_ENDPOINT":"http://127.0.0.1:4317","A":1}}`))
	f.Add([]byte("[otel]\nexporter = \"none\"\ntrace_exporter = { otlp-grpc = { endpoint = \"http://a\" } }\n"))
	f.Add([]byte("[otel]\nexporter = [[[{}]]]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if name := endpointInClaudeSettings(text); name != "" && !strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_") {
			t.Fatalf("%q", name)
		}
		switch name := exporterInCodexConfig(text); name {
		case "", "otel.exporter", "otel.trace_exporter":
		default:
			t.Fatalf("%q", name)
		}
	})
}

func FuzzShebang(f *testing.F) {
	f.Add([]byte("#!/usr/bin/env -S A=b node\nx"))
	f.Add([]byte("#! \n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		name := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := shebang(name); got != "" && (len(text) < 2 || string(text[:2]) != "#!" || strings.ContainsAny(got, " \n")) {
			t.Fatalf("%q", got)
		}
	})
}

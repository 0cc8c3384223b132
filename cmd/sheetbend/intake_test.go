// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sdkattribute "go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
	"github.com/sheetbend/sheetbend/collector/capture"
	"github.com/sheetbend/sheetbend/collector/record"
)

// facts are the records of what agents' telemetry said, in a capture.
func facts(t *testing.T, name string) (said []record.Said, senders []uint32) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := capture.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		raw, err := r.Next()
		if errors.Is(err, io.EOF) {
			return said, senders
		}
		if err != nil {
			t.Fatal(err)
		}
		var e record.Event
		if err := e.Decode(raw); err != nil {
			t.Fatal(err)
		}
		if e.Header.Type == record.TypeSaid && e.Said.Kind != record.SaidRequest {
			said, senders = append(said, e.Said), append(senders, e.Header.Tgid)
		}
	}
}

func (b *backend) has(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.spans {
		if s.Name == name || eventOf(s) == name {
			return true
		}
	}
	return false
}

// eventOf is the contract's name of a span; "" of an agent's own.
func eventOf(s *tracepb.Span) string {
	for _, a := range s.Attributes {
		if a.Key == "sheetbend.event" {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

func (b *backend) names() (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.spans {
		list = append(list, s.Name)
	}
	return list
}

// An agent that reports by hand: bash can open TCP connections.
const reporting = `
hostport=${OTEL_EXPORTER_OTLP_ENDPOINT#http://}
body='{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"claude-code"}}]},"scopeSpans":[{"spans":[{
"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"claude_code.tool.execution","startTimeUnixNano":"1","endTimeUnixNano":"2",
"attributes":[{"key":"session.id","value":{"stringValue":"s-1"}},{"key":"gen_ai.tool.call.id","value":{"stringValue":"toolu_1"}}]}]}]}]}'
exec 3<>/dev/tcp/${hostport%:*}/${hostport#*:}
printf 'POST /v1/traces HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' ${#body} "$body" >&3
head -n 1 <&3
`

func TestAgentTelemetryOfARunIsReadCapturedAndForwarded(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, to := range []string{"the flag's backend", "the environment's backend", "nowhere"} {
		t.Run(to, func(t *testing.T) {
			b := serve(t)
			file := filepath.Join(t.TempDir(), "capture")
			args := []string{"run", "--agent", "claude-code", "--agent-telemetry", "--record", file}
			if to == "the flag's backend" {
				args = append(args, "--otlp-endpoint", "http://"+b.addr)
			}
			cmd := sheetbend(t, append(args, "--", "bash", "-c", reporting)...)
			if to == "the environment's backend" { // not elsewhere: where the spans go, too
				cmd.Env = append(cmd.Env, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+b.addr)
			}
			r := finish(t, cmd)
			if r.code != 0 || !strings.Contains(r.stdout, " 200 ") || !strings.Contains(r.stderr, "claude-code reports its own telemetry for this run") {
				t.Fatal(describeResult(r))
			}
			said, _ := facts(t, file)
			if len(said) != 1 || said[0].Kind != record.SaidContext || said[0].Session != "s-1" || said[0].Call != "toolu_1" {
				t.Errorf("%+v", said)
			}
			if got, want := b.has("claude_code.tool.execution"), to != "nowhere"; got != want {
				t.Errorf("forwarded: %t, want %t", got, want)
			}
		})
	}
}

func TestAToolCallCannotSpeakForItsAgentThroughTheIntake(t *testing.T) {
	t.Parallel()
	needRoot(t)
	// As an attacker in a call would: once as it is, once with an end that its child has, too, once hanging up at once.
	agent := filepath.Join(t.TempDir(), "bin", "claude")
	if err := os.MkdirAll(filepath.Dir(agent), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(agent, []byte(`#!/usr/bin/python3
import os, subprocess, sys
call = {"CLAUDE_CODE_SESSION_ID": "s-1", "TRACEPARENT": "00-0102030405060708090a0b0c0d0e0f10-0102030405060708-01"}
sys.exit(subprocess.run(["/bin/bash", "-c", sys.argv[1]], env={**os.environ, **call}, start_new_session=True).returncode)
`), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, send, answer string }{
		{"plainly", strings.Replace(reporting, "head -n 1 <&3", `read -r answer <&3; echo "$answer"`, 1), " 403 "},
		{"with an end of two processes", reporting, " 403 "},
		{"hanging up", strings.Replace(reporting, "head -n 1 <&3", "exec 3>&-", 1), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := serve(t)
			spans := filepath.Join(t.TempDir(), "spans")
			r := finish(t, sheetbend(t, "run", "--agent", "claude-code", "--agent-telemetry", "--no-agent-args", "--otlp-endpoint", "http://"+b.addr, "--output", spans,
				"--", agent, c.send))
			if r.code != 0 || !strings.Contains(r.stdout, c.answer) || c.answer != "" && !strings.Contains(r.stderr, "sent from inside of a tool call") {
				t.Error(describeResult(r))
			}
			if b.has("claude_code.tool.execution") {
				t.Error("it was forwarded")
			}
		})
	}
}

func TestWhatLooksLikeTheSensorsSpansIsNotForwarded(t *testing.T) {
	t.Parallel()
	needRoot(t)
	b := serve(t)
	forgery := strings.Replace(reporting, `"attributes":[{"key":"session.id"`, `"attributes":[{"key":"sheetbend.contract","value":{"stringValue":"1"}},{"key":"session.id"`, 1)
	r := finish(t, sheetbend(t, "run", "--agent", "claude-code", "--agent-telemetry", "--otlp-endpoint", "http://"+b.addr, "--", "bash", "-c", forgery))
	if r.code != 0 || !strings.Contains(r.stdout, " 403 ") || !strings.Contains(r.stderr, "1 request of agent telemetry refused: with the scope") {
		t.Error(describeResult(r))
	}
	if b.has("claude_code.tool.execution") {
		t.Error("it was forwarded")
	}
}

func TestTheSenderOfAFactOverTCPIsKnown(t *testing.T) {
	t.Parallel()
	needRoot(t)
	file := filepath.Join(t.TempDir(), "capture")
	// No child inherits the connection: of two processes that have it, nobody could say which one sends.
	script := strings.Replace(reporting, "head -n 1 <&3", `read answer <&3; echo "$answer"; echo "I am $$."`, 1)
	r := sheetbendRun(t, "run", "--agent", "claude-code", "--agent-telemetry", "--record", file, "--", "bash", "-c", script)
	_, rest, _ := strings.Cut(r.stdout, "I am ")
	pid, _, _ := strings.Cut(rest, ".")
	if said, senders := facts(t, file); len(said) != 1 || fmt.Sprint(senders[0]) != pid {
		t.Errorf("%+v from %v: %s", said, senders, describeResult(r))
	}
}

func TestTheSensorTakesInTelemetryUntilItsEnd(t *testing.T) {
	t.Parallel()
	_, cg := sensortest.Cgroup(t)
	b, second := serve(t), serve(t)
	dir := t.TempDir()
	socket, file := filepath.Join(dir, "intake.sock"), filepath.Join(dir, "capture")
	conf := configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/a}]\nsocket: %s/api.sock\nintake: {unix: %s}\nexporters: {otlp: [{endpoint: 'http://%s'}, {endpoint: 'http://%s'}]}\n",
		cg, dir, socket, b.addr, second.addr))
	cmd := sheetbend(t, "record", "--output", file, "--config", conf)
	log := sensortest.Start(t, cmd)
	log.Hear("watching")

	exporter, err := otlptracegrpc.New(t.Context(), otlptracegrpc.WithEndpoint("unix:"+socket), otlptracegrpc.WithInsecure())
	if err != nil {
		t.Fatal(err)
	}
	p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(resource.NewSchemaless(sdkattribute.String("service.name", "claude-code"))))
	_, s := p.Tracer("t").Start(t.Context(), "claude_code.tool.execution")
	s.SetAttributes(sdkattribute.String("session.id", "s-1"), sdkattribute.String("gen_ai.tool.call.id", "toolu_1"))
	s.End()
	if err := p.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	text := log.End(unix.SIGTERM)
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d: %s", code, text)
	}
	said, senders := facts(t, file)
	if len(said) != 1 || said[0].Trace != [16]byte(s.SpanContext().TraceID()) || senders[0] != uint32(os.Getpid()) {
		t.Errorf("%+v from %d", said, senders)
	}
	if !b.has("claude_code.tool.execution") || !second.has("claude_code.tool.execution") {
		t.Error("not forwarded to both")
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is left")
	}
}

func TestAnIntakeThatOthersCouldReachIsRefused(t *testing.T) {
	t.Parallel()
	_, cg := sensortest.Cgroup(t)
	r := sheetbendRun(t, "sensor", "--output", filepath.Join(t.TempDir(), "x"),
		"--config", configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/a}]\nsocket: ''\nintake: {listen: '0.0.0.0:0'}\n", cg)))
	if r.code == 0 || !strings.Contains(r.stderr, "intake.expose") {
		t.Error(describeResult(r))
	}
}

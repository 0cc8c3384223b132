// SPDX-License-Identifier: Apache-2.0

// Package marker serves the local API (docs/local-api.md): over a unix socket, marker agents and hooks mark
// which tool call begins or ends, and users ask what runs. It finds out who is at the other end, and bounds
// what anyone can send; whether a process may speak for a call is for the collector, which knows the lineage.
package marker

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

// errRequest begins every error that is the client's fault.
var errRequest = errors.New("bad request")

// decodeRequest reads one line. Unknown keys are ignored, so that a newer client can speak to an
// older sensor.
func decodeRequest(line []byte) (client.Request, error) {
	var r client.Request
	if len(line) > client.MaxRequest {
		return r, fmt.Errorf("%w: longer than %d bytes", errRequest, client.MaxRequest)
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return client.Request{}, fmt.Errorf("%w: not a JSON object of the local API: %w", errRequest, err)
	}
	if err := check(&r); err != nil {
		return client.Request{}, fmt.Errorf("%w: %w", errRequest, err)
	}
	return r, nil
}

const ops = "begin, end, hook, sessions, session, recordings, spans, forget and watch"

func check(r *client.Request) error {
	if len(r.Paths) > client.MaxPaths {
		return fmt.Errorf("more than %d paths", client.MaxPaths)
	}
	type field struct{ key, value string }
	fields := []field{
		{"op", r.Op}, {"session", r.Session}, {"call", r.Call}, {"tool", r.Tool}, {"agent", r.Agent},
		{"traceparent", r.Traceparent}, {"cgroup", r.Cgroup}, {"source", r.Source},
		{"command", r.Command}, {"thread", r.Thread}, {"recording", r.Recording},
	}
	for _, path := range r.Paths {
		fields = append(fields, field{"paths", path})
	}
	for _, f := range fields {
		if len(f.value) > client.MaxText {
			return fmt.Errorf("%s is longer than %d bytes", f.key, client.MaxText)
		}
		if strings.ContainsRune(f.value, 0) { // what is not UTF-8, encoding/json has replaced
			return fmt.Errorf("%s holds a NUL character", f.key)
		}
	}
	switch r.Op {
	case client.OpBegin, client.OpEnd:
		if r.Call == "" {
			return errors.New("call is missing: the id of the tool call")
		}
	case client.OpSession:
		if r.Session == "" {
			return errors.New("session is missing: its id, as sessions lists it")
		}
	case client.OpHook:
		if r.Agent == "" {
			return errors.New("agent is missing: its name in the table of agents")
		}
	case client.OpSpans, client.OpForget:
		if r.Recording == "" {
			return errors.New("recording is missing: its name, as recordings lists it")
		}
	case client.OpSessions, client.OpRecordings, client.OpWatch:
	case "":
		return errors.New("op is missing: " + ops)
	default:
		return errors.New("unknown op: known are " + ops)
	}
	_, _, ok := span.ParseTraceparent(r.Traceparent)
	if r.Traceparent != "" && (!ok || !strings.HasPrefix(r.Traceparent, "00-")) {
		return errors.New("traceparent is not in the W3C format, 00-TRACE-SPAN-FLAGS in lower-case hex digits")
	}
	if r.PID < 0 || r.PID > 1<<22 { // the kernel's PID_MAX_LIMIT
		return errors.New("pid is out of range")
	}
	if r.Cgroup != "" && !strings.HasPrefix(r.Cgroup, "/") {
		return errors.New("cgroup is not a path from the cgroup v2 mount: it begins with a slash")
	}
	switch r.Source {
	case "", client.SourceAPI, client.SourceHook:
	default:
		return fmt.Errorf("source is neither %s nor %s", client.SourceAPI, client.SourceHook)
	}
	return nil
}

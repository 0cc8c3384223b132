// SPDX-License-Identifier: Apache-2.0

// Package hook reads what an agent sends its hooks, and writes the hook configuration of the agents that
// have one.
package hook

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

const (
	// MaxInput bounds the JSON of one hook: it holds the arguments and the output of the tool.
	MaxInput = 32 << 20
	// maxCalls bounds the calls in the input of one hook.
	maxCalls = 64
)

// An Event is what one run of a hook reports.
type Event struct {
	Op    string // client.OpBegin, client.OpEnd, or empty: nothing about a call
	Marks []client.Mark
}

// Read reads an event from a hook's JSON, in the agent's dialect. getenv reads the hook's environment. An event
// that marks no call is no error.
func Read(input []byte, d *agents.Dialect, getenv func(string) string) (Event, error) {
	if len(input) > MaxInput {
		return Event{}, fmt.Errorf("the hook's input is longer than %d bytes", MaxInput)
	}
	// Arguments and outputs of the tool are not decoded: nothing of them is wanted.
	var root map[string]json.RawMessage
	if err := json.Unmarshal(input, &root); err != nil {
		return Event{}, fmt.Errorf("the hook's input is not a JSON object: %w", err)
	}
	var e Event
	switch name := first(root, d.Hook.Event); {
	case name == "":
		return e, nil
	case slices.Contains(d.Hook.Begin, name):
		e.Op = client.OpBegin
	case slices.Contains(d.Hook.End, name):
		e.Op = client.OpEnd
	default:
		return e, nil
	}
	m := client.Mark{
		Source: client.SourceHook, Agent: d.Name,
		Session: first(root, d.Hook.Session), Tool: first(root, d.Hook.Tool),
		Traceparent: first(root, d.Hook.Traceparent),
	}
	for _, name := range d.Hook.Env {
		if m.Session == "" && len(getenv(name)) <= client.MaxText {
			m.Session = getenv(name)
		}
	}
	for _, path := range d.Hook.Call {
		calls := find(root, path)
		for _, call := range calls {
			m.Call = call
			e.Marks = append(e.Marks, m)
		}
		if len(calls) > 0 {
			break
		}
	}
	return e, nil
}

// first is the first value of the first path that has one.
func first(root map[string]json.RawMessage, paths []string) string {
	for _, path := range paths {
		if found := find(root, path); len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

// find gives the strings at a path, whose dots lead into objects; a list on the way stands for each of its
// elements. What is empty, or longer than a mark can hold, is left out.
func find(root map[string]json.RawMessage, path string) (found []string) {
	key, rest, deeper := strings.Cut(path, ".")
	raw, ok := root[key]
	if !ok {
		return nil
	}
	elements := []json.RawMessage{raw}
	if raw[0] == '[' {
		elements = nil
		if json.Unmarshal(raw, &elements) != nil {
			return nil
		}
	}
	for _, e := range elements[:min(len(elements), maxCalls)] {
		if deeper {
			var object map[string]json.RawMessage
			if json.Unmarshal(e, &object) == nil {
				found = append(found, find(object, rest)...)
			}
		} else {
			var text string
			if json.Unmarshal(e, &text) == nil && text != "" && len(text) <= client.MaxText {
				found = append(found, text)
			}
		}
		if len(found) >= maxCalls {
			return found[:maxCalls]
		}
	}
	return found
}

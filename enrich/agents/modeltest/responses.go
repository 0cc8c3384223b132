// SPDX-License-Identifier: Apache-2.0

package modeltest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
)

// The OpenAI Responses protocol: https://platform.openai.com/docs/api-reference/responses-streaming

// offered is a tool, or a namespace of tools.
type offered struct {
	Type       string    `json:"type"`
	Name       string    `json:"name"`
	Parameters schema    `json:"parameters"`
	Tools      []offered `json:"tools"`
}

func (o offered) all(namespace string) (tools []tool) {
	if o.Type != "namespace" {
		return []tool{{name: o.Name, namespace: namespace, custom: o.Type == "custom", takes: o.Parameters.Properties}}
	}
	for _, t := range o.Tools {
		tools = append(tools, t.all(o.Name)...)
	}
	return tools
}

func decodeResponses(body []byte) (r request, stream bool, err error) {
	var in struct {
		Stream bool            `json:"stream"`
		Input  json.RawMessage `json:"input"`
		Tools  []offered       `json:"tools"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return r, false, fmt.Errorf("responses request: %w", err)
	}
	var items []struct {
		Type    string          `json:"type"`
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
		CallID  string          `json:"call_id"`
		Output  json.RawMessage `json:"output"`
		Tools   []offered       `json:"tools"` // of the type additional_tools
	}
	if json.Unmarshal(in.Input, &items) != nil {
		r.prompts = append(r.prompts, text(in.Input))
	}
	r.results = map[string]string{}
	for _, item := range items {
		in.Tools = append(in.Tools, item.Tools...)
		switch {
		case item.Type == "function_call_output" || item.Type == "custom_tool_call_output":
			r.results[item.CallID] = text(item.Output)
			r.answered++
		case item.Role == "user" || item.Type == "agent_message": // of the user, or of the agent that began this subagent
			r.prompts = append(r.prompts, text(item.Content))
		}
	}
	for _, t := range in.Tools {
		r.tools = append(r.tools, t.all("")...)
	}
	r.programs = slices.ContainsFunc(r.tools, func(t tool) bool { return t.custom && t.name == programs })
	return r, in.Stream, nil
}

func writeResponses(w http.ResponseWriter, a answer, stream bool) {
	var output []any
	for _, c := range a.calls {
		if c.program != "" {
			output = append(output, map[string]any{
				"type": "custom_tool_call", "id": "ctc_" + c.id, "call_id": c.id, "name": c.tool, "input": c.program, "status": "completed",
			})
			continue
		}
		item := map[string]any{
			"type": "function_call", "id": "fc_" + c.id, "call_id": c.id, "name": c.tool, "arguments": marshal(c.input), "status": "completed",
		}
		if c.namespace != "" {
			item["namespace"] = c.namespace
		}
		output = append(output, item)
	}
	if len(a.calls) == 0 {
		output = append(output, map[string]any{
			"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
			"content": []any{map[string]any{"type": "output_text", "text": a.text, "annotations": []any{}}},
		})
	}
	done := map[string]any{
		"id": "resp_1", "object": "response", "model": "scripted", "status": "completed", "output": output,
		"usage": map[string]any{
			"input_tokens": 10, "output_tokens": 10, "total_tokens": 20,
			"input_tokens_details": map[string]any{"cached_tokens": 0}, "output_tokens_details": map[string]any{"reasoning_tokens": 0},
		},
	}
	if !stream {
		writeJSON(w, done)
		return
	}
	e := startEvents(w)
	e.send("response.created", map[string]any{"type": "response.created", "response": map[string]any{"id": "resp_1", "object": "response", "status": "in_progress"}})
	for i, item := range output {
		e.send("response.output_item.added", map[string]any{"type": "response.output_item.added", "output_index": i, "item": item})
		e.send("response.output_item.done", map[string]any{"type": "response.output_item.done", "output_index": i, "item": item})
	}
	e.send("response.completed", map[string]any{"type": "response.completed", "response": done})
}

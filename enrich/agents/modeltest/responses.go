// SPDX-License-Identifier: Apache-2.0

package modeltest

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// The OpenAI Responses protocol: https://platform.openai.com/docs/api-reference/responses-streaming

func decodeResponses(body []byte) (r request, stream bool, err error) {
	var in struct {
		Stream bool            `json:"stream"`
		Input  json.RawMessage `json:"input"`
		Tools  []tool          `json:"tools"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return r, false, fmt.Errorf("responses request: %w", err)
	}
	r.namespaces = map[string]string{}
	r.offer(in.Tools, "")
	var items []struct {
		Type    string          `json:"type"`
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
		CallID  string          `json:"call_id"`
		Output  json.RawMessage `json:"output"`
		Tools   []tool          `json:"tools"` // of additional_tools
	}
	if json.Unmarshal(in.Input, &items) != nil {
		r.prompts = append(r.prompts, text(in.Input))
	}
	r.results = map[string]string{}
	for _, item := range items {
		r.offer(item.Tools, "")
		switch {
		case item.Type == "function_call_output" || item.Type == "custom_tool_call_output":
			r.results[item.CallID] = text(item.Output)
			r.answered++
		case item.Role == "user" || item.Type == "agent_message": // of the user, or of the agent that began this subagent
			r.prompts = append(r.prompts, text(item.Content))
		}
	}
	return r, in.Stream, nil
}

// A tool is one, or a namespace of some.
type tool struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Tools []tool `json:"tools"`
}

// offer adds tools of a namespace.
func (r *request) offer(tools []tool, namespace string) {
	for _, t := range tools {
		if t.Type == "namespace" {
			r.offer(t.Tools, t.Name)
			continue
		}
		r.tools = append(r.tools, t.Name)
		r.namespaces[t.Name] = namespace
		r.programs = r.programs || t.Type == "custom" && t.Name == programs
	}
}

func writeResponses(w http.ResponseWriter, a answer, stream bool) {
	var output []any
	for _, c := range a.calls {
		item := map[string]any{"type": "function_call", "id": "fc_" + c.id, "call_id": c.id, "name": c.tool, "status": "completed"}
		if c.program != "" {
			item["type"], item["input"] = "custom_tool_call", c.program
		} else {
			item["arguments"] = marshal(c.input)
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

// SPDX-License-Identifier: Apache-2.0

package modeltest

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// The Anthropic Messages protocol: https://docs.claude.com/en/api/messages-streaming

func decodeMessages(body []byte) (r request, stream bool, err error) {
	var in struct {
		Stream   bool `json:"stream"`
		Messages []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
		Tools []struct {
			Name        string `json:"name"`
			InputSchema schema `json:"input_schema"`
		} `json:"tools"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return r, false, fmt.Errorf("messages request: %w", err)
	}
	for _, t := range in.Tools {
		r.tools = append(r.tools, tool{name: t.Name, takes: t.InputSchema.Properties})
	}
	r.results = map[string]string{}
	for _, m := range in.Messages {
		if m.Role != "user" {
			continue
		}
		var parts []struct {
			Type      string          `json:"type"`
			ToolUseID string          `json:"tool_use_id"`
			Content   json.RawMessage `json:"content"`
		}
		_ = json.Unmarshal(m.Content, &parts) // a plain text has none
		for _, p := range parts {
			if p.Type == "tool_result" {
				r.results[p.ToolUseID] = text(p.Content)
				r.answered++
			}
		}
		r.prompts = append(r.prompts, text(m.Content))
	}
	return r, in.Stream, nil
}

func writeMessages(w http.ResponseWriter, a answer, stream bool) {
	reason, content := "end_turn", []any{}
	if len(a.calls) > 0 {
		reason = "tool_use"
	} else {
		content = append(content, map[string]any{"type": "text", "text": a.text})
	}
	for _, c := range a.calls {
		content = append(content, map[string]any{"type": "tool_use", "id": c.id, "name": c.tool, "input": c.input})
	}
	usage := map[string]any{"input_tokens": 10, "output_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
	if !stream {
		writeJSON(w, map[string]any{
			"id": "msg_1", "type": "message", "role": "assistant", "model": "scripted",
			"content": content, "stop_reason": reason, "stop_sequence": nil, "usage": usage,
		})
		return
	}
	e := startEvents(w)
	e.send("message_start", map[string]any{"type": "message_start", "message": map[string]any{
		"id": "msg_1", "type": "message", "role": "assistant", "model": "scripted",
		"content": []any{}, "stop_reason": nil, "stop_sequence": nil, "usage": usage,
	}})
	block := func(i int, start, delta map[string]any) {
		e.send("content_block_start", map[string]any{"type": "content_block_start", "index": i, "content_block": start})
		e.send("content_block_delta", map[string]any{"type": "content_block_delta", "index": i, "delta": delta})
		e.send("content_block_stop", map[string]any{"type": "content_block_stop", "index": i})
	}
	if len(a.calls) == 0 {
		block(0, map[string]any{"type": "text", "text": ""}, map[string]any{"type": "text_delta", "text": a.text})
	}
	for i, c := range a.calls {
		block(i, map[string]any{"type": "tool_use", "id": c.id, "name": c.tool, "input": map[string]any{}},
			map[string]any{"type": "input_json_delta", "partial_json": marshal(c.input)})
	}
	e.send("message_delta", map[string]any{
		"type": "message_delta", "delta": map[string]any{"stop_reason": reason, "stop_sequence": nil}, "usage": map[string]any{"output_tokens": 10},
	})
	e.send("message_stop", map[string]any{"type": "message_stop"})
}

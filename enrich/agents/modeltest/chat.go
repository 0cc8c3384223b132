// SPDX-License-Identifier: Apache-2.0

package modeltest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// The OpenAI Chat Completions protocol: https://platform.openai.com/docs/api-reference/chat-streaming

func decodeChat(body []byte) (r request, stream bool, err error) {
	var in struct {
		Stream   bool `json:"stream"`
		Messages []struct {
			Role       string          `json:"role"`
			Content    json.RawMessage `json:"content"`
			ToolCallID string          `json:"tool_call_id"`
		} `json:"messages"`
		Tools []struct {
			Function struct {
				Name       string `json:"name"`
				Parameters schema `json:"parameters"`
			} `json:"function"`
		} `json:"tools"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return r, false, fmt.Errorf("chat request: %w", err)
	}
	for _, t := range in.Tools {
		r.tools = append(r.tools, tool{name: t.Function.Name, takes: t.Function.Parameters.Properties})
	}
	r.results = map[string]string{}
	for _, m := range in.Messages {
		switch m.Role {
		case "tool":
			r.results[m.ToolCallID] = text(m.Content)
			r.answered++
		case "user":
			r.prompts = append(r.prompts, text(m.Content))
		}
	}
	return r, in.Stream, nil
}

func writeChat(w http.ResponseWriter, a answer, stream bool) {
	message, reason := map[string]any{"role": "assistant"}, "stop"
	var calls []any
	for i, c := range a.calls {
		calls = append(calls, map[string]any{
			"index": i, "id": c.id, "type": "function", "function": map[string]any{"name": c.tool, "arguments": marshal(c.input)},
		})
	}
	if len(calls) > 0 {
		message["content"], message["tool_calls"], reason = nil, calls, "tool_calls"
	} else {
		message["content"] = a.text
	}
	usage := map[string]any{"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
	reply := func(kind string, choices []any, more map[string]any) map[string]any {
		m := map[string]any{"id": "chatcmpl-1", "object": kind, "created": 1, "model": "scripted", "choices": choices}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	if !stream {
		writeJSON(w, reply("chat.completion", []any{map[string]any{"index": 0, "message": message, "finish_reason": reason}}, map[string]any{"usage": usage}))
		return
	}
	e := startEvents(w)
	const kind = "chat.completion.chunk"
	e.send("", reply(kind, []any{map[string]any{"index": 0, "delta": message, "finish_reason": nil}}, nil))
	e.send("", reply(kind, []any{map[string]any{"index": 0, "delta": map[string]any{}, "finish_reason": reason}}, nil))
	e.send("", reply(kind, []any{}, map[string]any{"usage": usage}))
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// SPDX-License-Identifier: Apache-2.0

package modeltest

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// The Gemini protocol: https://ai.google.dev/api/generate-content

func decodeGemini(body []byte) (r request, stream bool, err error) {
	var in struct {
		Contents []struct {
			Role  string `json:"role"`
			Parts []struct {
				Text             string `json:"text"`
				FunctionResponse *struct {
					ID       string          `json:"id"`
					Response json.RawMessage `json:"response"`
				} `json:"functionResponse"`
			} `json:"parts"`
		} `json:"contents"`
		Tools []struct {
			FunctionDeclarations []struct {
				Name       string `json:"name"`
				Parameters schema `json:"parameters"`
				JSONSchema schema `json:"parametersJsonSchema"`
			} `json:"functionDeclarations"`
		} `json:"tools"`
		GenerationConfig struct {
			ResponseMimeType string `json:"responseMimeType"`
		} `json:"generationConfig"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return r, false, fmt.Errorf("gemini request: %w", err)
	}
	if in.GenerationConfig.ResponseMimeType != "application/json" { // such a request wants no calls
		for _, t := range in.Tools {
			for _, f := range t.FunctionDeclarations {
				takes := f.Parameters.Properties
				if takes == nil {
					takes = f.JSONSchema.Properties
				}
				r.tools = append(r.tools, tool{name: f.Name, takes: takes})
			}
		}
	}
	r.results = map[string]string{}
	for _, c := range in.Contents {
		if c.Role == "model" {
			continue
		}
		for _, p := range c.Parts {
			if p.FunctionResponse != nil {
				r.results[p.FunctionResponse.ID] = string(p.FunctionResponse.Response)
				r.answered++
			} else {
				r.prompts = append(r.prompts, p.Text)
			}
		}
	}
	return r, true, nil
}

func geminiReply(a answer) map[string]any {
	parts := []any{}
	for _, c := range a.calls {
		parts = append(parts, map[string]any{"functionCall": map[string]any{"id": c.id, "name": c.tool, "args": c.input}})
	}
	if len(parts) == 0 {
		parts = append(parts, map[string]any{"text": a.text})
	}
	return map[string]any{
		"candidates":    []any{map[string]any{"content": map[string]any{"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}},
		"usageMetadata": map[string]any{"promptTokenCount": 10, "candidatesTokenCount": 10, "totalTokenCount": 20},
		"modelVersion":  "scripted",
	}
}

func writeGemini(w http.ResponseWriter, a answer, _ bool) { writeJSON(w, geminiReply(a)) }

func writeGeminiStream(w http.ResponseWriter, a answer, _ bool) {
	startEvents(w).send("", geminiReply(a))
}

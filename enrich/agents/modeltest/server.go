// SPDX-License-Identifier: Apache-2.0

package modeltest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

// maxRequest bounds what is read of one request: agents send every message so far each time.
const maxRequest = 64 << 20

// Server is a running model.
type Server struct {
	http    *httptest.Server
	scripts map[string]Script

	mu   sync.Mutex
	seen []string
	errs []string
}

// New starts a server on loopback. The caller closes it.
func New(scripts ...Script) *Server {
	s := &Server{scripts: map[string]Script{}}
	for _, script := range scripts {
		s.scripts[script.Name] = script
	}
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// URL is the server's base, without a slash at its end. The protocols are below it where their clients look:
// /v1/responses, /v1/chat/completions, /v1/messages, /v1beta/models/….
func (s *Server) URL() string { return s.http.URL }

// Close ends all connections.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

// Requests gives method and path of what was asked so far, for a failing test to show.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.seen...)
}

// Errors gives what could not be answered.
func (s *Server) Errors() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.errs...)
}

func (s *Server) note(list *[]string, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(*list) < 1024 {
		*list = append(*list, text)
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.note(&s.seen, r.Method+" "+r.URL.Path)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		s.fail(w, fmt.Errorf("read the request: %w", err))
		return
	}
	path := strings.TrimSuffix(r.URL.Path, "/")
	switch {
	case r.Method == http.MethodHead || path == "":
		w.WriteHeader(http.StatusOK)
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/responses"):
		s.answer(w, body, decodeResponses, writeResponses)
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/chat/completions"):
		s.answer(w, body, decodeChat, writeChat)
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/messages/count_tokens"):
		writeJSON(w, map[string]any{"input_tokens": 100})
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/messages"):
		s.answer(w, body, decodeMessages, writeMessages)
	case r.Method == http.MethodPost && strings.HasSuffix(path, ":streamGenerateContent"):
		s.answer(w, body, decodeGemini, writeGeminiStream)
	case r.Method == http.MethodPost && strings.HasSuffix(path, ":generateContent"):
		s.answer(w, body, decodeGemini, writeGemini)
	case r.Method == http.MethodPost && strings.HasSuffix(path, ":countTokens"):
		writeJSON(w, map[string]any{"totalTokens": 100})
	case r.Method == http.MethodGet && strings.HasSuffix(path, "/models"):
		writeJSON(w, map[string]any{"object": "list", "models": []any{}, "data": []any{map[string]any{
			"id": "scripted", "object": "model", "type": "model", "display_name": "scripted",
		}}})
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"type":"error","error":{"type":"not_found_error","message":"not here"}}`)
	}
}

// answer runs one protocol: decode what counts, decide, write. Writers get whether the client wants a stream.
func (s *Server) answer(w http.ResponseWriter, body []byte, decode func([]byte) (request, bool, error), write func(http.ResponseWriter, answer, bool)) {
	r, stream, err := decode(body)
	if err == nil {
		var a answer
		if a, err = next(s.scripts, r); err == nil {
			write(w, a, stream)
			return
		}
	}
	s.fail(w, err)
}

func (s *Server) fail(w http.ResponseWriter, err error) {
	s.note(&s.errs, err.Error())
	http.Error(w, err.Error(), http.StatusBadRequest)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// An events writes server-sent events.
type events struct{ w http.ResponseWriter }

func startEvents(w http.ResponseWriter) events {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	return events{w}
}

// send writes one event; name may be empty.
func (e events) send(name string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // values made in this package
	}
	if name != "" {
		fmt.Fprintf(e.w, "event: %s\n", name)
	}
	fmt.Fprintf(e.w, "data: %s\n\n", data)
	if f, ok := e.w.(http.Flusher); ok {
		f.Flush()
	}
}

func marshal(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // as above
	}
	return string(data)
}

// text reads the content of a message: a string, or a list of parts of which those with a text count.
func text(raw json.RawMessage) string {
	var plain string
	if json.Unmarshal(raw, &plain) == nil {
		return plain
	}
	var parts []struct {
		Text      string `json:"text"`
		Encrypted string `json:"encrypted_content"` // for the model only, which is this one
	}
	_ = json.Unmarshal(raw, &parts)
	var all []string
	for _, p := range parts {
		all = append(all, p.Text+p.Encrypted)
	}
	return strings.Join(all, "\n")
}

// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"
)

const (
	maxHeadersFile = 64 << 10
	maxHeaders     = 64
)

// headersFile holds the headers of a file, for tokens that something else renews.
type headersFile struct {
	name string
	as   func(func() error) error // gives the rights to read it; nil: this process's

	mu       sync.Mutex
	headers  metadata.MD
	modified time.Time
	size     int64
}

func openHeaders(name string, as func(func() error) error) (*headersFile, error) {
	h := &headersFile{name: name, as: as}
	return h, h.refresh()
}

// refresh reads the file if it changed since. A file that cannot be read changes nothing, and is an error once.
func (h *headersFile) refresh() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var info os.FileInfo
	err := withRights(h.as, func() (err error) {
		info, err = os.Stat(h.name)
		return err
	})
	if err != nil {
		if h.modified.IsZero() && h.headers != nil {
			return nil // reported before
		}
		h.modified, h.size = time.Time{}, 0
		return fmt.Errorf("read the OTLP headers: %w", err)
	}
	if info.ModTime().Equal(h.modified) && info.Size() == h.size {
		return nil
	}
	h.modified, h.size = info.ModTime(), info.Size()
	text, err := readBounded(h.name, maxHeadersFile, h.as)
	if err != nil {
		return fmt.Errorf("read the OTLP headers: %w", err)
	}
	headers, err := parseHeaders(string(text))
	if err != nil {
		return fmt.Errorf("OTLP headers in %s: %w", h.name, err)
	}
	h.headers = headers
	return nil
}

func (h *headersFile) current() metadata.MD {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.headers.Copy()
}

// parseHeaders takes lines "name: value"; empty ones and those that begin with # count for nothing. Errors name the
// line only: a value is a secret.
func parseHeaders(text string) (metadata.MD, error) {
	headers := metadata.MD{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("line %d is not of the form name: value", number)
		}
		if err := addHeader(headers, strings.TrimSpace(name), strings.TrimSpace(value)); err != nil {
			return nil, fmt.Errorf("line %d %w", number, err)
		}
	}
	return headers, nil
}

// addHeader checks it. The error does not repeat the value.
func addHeader(to metadata.MD, name, value string) error {
	switch {
	case !headerName(name):
		return errors.New("does not begin with the name of a header")
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }):
		return errors.New("has a value that is not printable ASCII")
	}
	to.Append(name, value)
	if len(to) > maxHeaders {
		return fmt.Errorf("is one more than %d headers", maxHeaders)
	}
	return nil
}

// headerName is what gRPC takes as one; it keeps those that begin with grpc- to itself.
func headerName(s string) bool {
	if s == "" || strings.HasPrefix(strings.ToLower(s), "grpc-") {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	})
}

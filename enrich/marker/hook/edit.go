// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// The functions here change single places of a JSON text and leave every other byte as its owner wrote it.

// A value is a part of a JSON text: [from, to) of its bytes.
type value struct{ from, to int }

// A member is a value in an object, with its key, or in a list.
type member struct {
	key   string
	start int // where the key stands; for a list that of the value
	value
}

var errForm = errors.New("not JSON of the expected form")

// members lists what is in the object or list at v. The text is valid JSON.
func members(text []byte, v value) ([]member, error) {
	d := json.NewDecoder(bytes.NewReader(text[v.from:v.to]))
	open, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, _ := open.(json.Delim)
	if delim != '{' && delim != '[' {
		return nil, errForm
	}
	var out []member
	seen := map[string]bool{}
	for d.More() {
		m := member{start: v.from + skip(text[v.from:], int(d.InputOffset()))}
		if delim == '{' {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			m.key, _ = key.(string)
			if seen[m.key] {
				return nil, fmt.Errorf("%q stands there twice", m.key)
			}
			seen[m.key] = true
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		m.to = v.from + int(d.InputOffset())
		m.from = m.to - len(raw)
		if delim == '[' {
			m.start = m.from
		}
		out = append(out, m)
	}
	return out, nil
}

// skip moves over white space and commas.
func skip(text []byte, at int) int {
	for at < len(text) && strings.IndexByte(" \t\r\n,", text[at]) >= 0 {
		at++
	}
	return at
}

func named(list []member, key string) (member, bool) {
	for _, m := range list {
		if m.key == key {
			return m, true
		}
	}
	return member{}, false
}

// style is how a text is laid out.
type style struct {
	indent string // of one level; empty: all in one line
}

// styleOf is that of the text's first line with an indent.
func styleOf(text []byte) style {
	if bytes.IndexByte(bytes.TrimSpace(text), '\n') < 0 && len(bytes.TrimSpace(text)) > len("{}") {
		return style{}
	}
	for line := range bytes.Lines(text) {
		rest := bytes.TrimLeft(line, " \t")
		if n := len(line) - len(rest); n > 0 && len(bytes.TrimSpace(rest)) > 0 {
			return style{string(line[:n])}
		}
	}
	return style{"  "}
}

func (s style) line(depth int) string {
	if s.indent == "" {
		return ""
	}
	return "\n" + strings.Repeat(s.indent, depth)
}

// render writes v as it stands at a depth.
func (s style) render(v any, depth int) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if s.indent != "" {
		e.SetIndent(strings.Repeat(s.indent, depth), s.indent)
	}
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// add appends a member (or, without a key, an element) to the object or list at v, whose members stand at depth.
func (s style) add(text []byte, v value, depth int, key string, what any) ([]byte, error) {
	list, err := members(text, v)
	if err != nil {
		return nil, err
	}
	insert, err := s.render(what, depth)
	if err != nil {
		return nil, err
	}
	if key != "" {
		quoted, err := json.Marshal(key)
		if err != nil {
			return nil, err
		}
		insert = string(quoted) + ": " + insert
	}
	insert = s.line(depth) + insert
	if len(list) == 0 {
		// Between the brackets there is white space at most.
		return splice(text, v.from+1, v.to-1, insert+s.line(depth-1)), nil
	}
	if s.indent == "" {
		insert = " " + insert
	}
	at := list[len(list)-1].to
	return splice(text, at, at, ","+insert), nil
}

// remove takes the i-th member out of the object or list at v.
func remove(text []byte, v value, list []member, i int) []byte {
	switch {
	case len(list) == 1:
		return splice(text, v.from+1, v.to-1, "")
	case i > 0:
		return splice(text, list[i-1].to, list[i].to, "")
	}
	return splice(text, list[0].start, list[1].start, "")
}

func splice(text []byte, from, to int, by string) []byte {
	out := make([]byte, 0, len(text)+len(by))
	out = append(out, text[:from]...)
	out = append(out, by...)
	return append(out, text[to:]...)
}

// whole is the one value of a text.
func whole(text []byte) (value, error) {
	if !json.Valid(text) {
		return value{}, errors.New("it is not valid JSON: repair it first")
	}
	from := skip(text, 0)
	return value{from, from + len(bytes.TrimRight(text[from:], " \t\r\n"))}, nil
}

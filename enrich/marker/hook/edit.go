// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tailscale/hujson"
)

// The functions here change single places of a JSON text: [hujson.Value.Pack] writes every other byte as its owner
// wrote it.

// maxValues bounds the values of a text, counted by its commas: the tree takes up to 240 bytes for each.
const maxValues = 1 << 18

var errForm = errors.New("not JSON of the expected form")

// parse reads strict JSON. The tree aliases text.
func parse(text []byte) (*hujson.Value, error) {
	switch {
	case bytes.Count(text, []byte(",")) > maxValues:
		return nil, fmt.Errorf("it has more than %d values, which no configuration has", maxValues)
	case !json.Valid(text): // hujson takes comments, and nests without a bound
		return nil, errors.New("it is not valid JSON: repair it first")
	}
	v, err := hujson.Parse(text)
	return &v, err
}

// object gives v as an object. An error is errForm, or names a key that stands there twice: programs differ in
// which they read.
func object(v *hujson.Value) (*hujson.Object, error) {
	o, ok := v.Value.(*hujson.Object)
	if !ok {
		return nil, errForm
	}
	seen := map[string]bool{}
	for _, m := range o.Members {
		key := keyOf(m)
		if seen[key] {
			return nil, fmt.Errorf("%q appears twice", key)
		}
		seen[key] = true
	}
	return o, nil
}

func keyOf(m hujson.ObjectMember) string {
	name, _ := m.Name.Value.(hujson.Literal)
	return name.String()
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

func (s style) line(depth int) hujson.Extra {
	if s.indent == "" {
		return nil
	}
	return hujson.Extra("\n" + strings.Repeat(s.indent, depth))
}

// before is what stands before a value that follows n others at a depth. After the first, the bracket needs a new
// closing, too.
func (s style) before(n, depth int, closing *hujson.Extra) hujson.Extra {
	switch {
	case n == 0:
		*closing = s.line(depth - 1)
	case s.indent == "":
		return hujson.Extra(" ")
	}
	return s.line(depth)
}

// addMember appends to an object whose members stand at depth.
func (s style) addMember(o *hujson.Object, depth int, key string, v hujson.ValueTrimmed) {
	o.Members = append(o.Members, hujson.ObjectMember{
		Name:  hujson.Value{BeforeExtra: s.before(len(o.Members), depth, &o.AfterExtra), Value: hujson.String(key)},
		Value: hujson.Value{BeforeExtra: hujson.Extra(" "), Value: v},
	})
}

// addElement appends to a list whose elements stand at depth.
func (s style) addElement(a *hujson.Array, depth int, what any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if s.indent != "" {
		e.SetIndent(strings.Repeat(s.indent, depth), s.indent)
	}
	err := e.Encode(what)
	a.Elements = append(a.Elements, hujson.Value{
		BeforeExtra: s.before(len(a.Elements), depth, &a.AfterExtra),
		Value:       hujson.Literal(bytes.TrimSuffix(b.Bytes(), []byte("\n"))),
	})
	return err
}

// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"go.yaml.in/yaml/v3"
)

// maxFile bounds the file: a wrong name should not fill memory.
const maxFile = 1 << 20

// Read reads an open file over the defaults. The result is not validated yet: flags may follow.
func Read(f *os.File) (*Config, error) {
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: larger than 1 MiB, which no configuration is", f.Name())
	}
	c, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return c, nil
}

func parse(text []byte) (*Config, error) {
	c := Default()
	var doc yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(text))
	if err := documents.Decode(&doc); errors.Is(err, io.EOF) {
		return c, nil
	} else if err != nil {
		return nil, tidy(err)
	}
	if err := documents.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document in it")
	}
	if err := known(&doc, reflect.TypeFor[Config](), ""); err != nil {
		return nil, err
	}
	if err := doc.Decode(c); err != nil {
		return nil, tidy(err)
	}
	if len(c.Exporters.OTLP) == 0 { // a key without a value
		c.Exporters.OTLP = OTLPs{defaultOTLP()}
	}
	return c, nil
}

var goTypes = strings.NewReplacer("[]config.Sandbox", "a list of sandboxes", "[]string", "a list of strings",
	"[]agents.Dialect", "a list of agents", "map[string]string", "a mapping of strings", "agents.", "the section ",
	"config.", "the section ")

// tidy takes the library's name and its Go types out of a message for users.
func tidy(err error) error {
	text := err.Error()
	if t, ok := errors.AsType[*yaml.TypeError](err); ok {
		text = strings.Join(t.Errors, "; ")
	}
	text = strings.TrimPrefix(text, "yaml: ")
	return errors.New(goTypes.Replace(text))
}

// known refuses keys that no field has. It does so before decoding, to name where and what
// was probably meant; the library's own check names Go types.
func known(n *yaml.Node, t reflect.Type, at string) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return known(n.Content[0], t, at)
	case yaml.SequenceNode:
		if t.Kind() != reflect.Slice {
			return nil // decoding tells of the mismatch
		}
		for i, item := range n.Content {
			if err := known(item, t.Elem(), fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case yaml.MappingNode:
		if t == reflect.TypeFor[OTLPs]() {
			t = t.Elem() // one alone needs no list
		}
		if t.Kind() != reflect.Struct {
			return nil
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			field, ok := fields(t)[key.Value]
			if !ok {
				err := fmt.Errorf("line %d: unknown key %q", key.Line, join(at, key.Value))
				if near := nearest(key.Value, slices.Sorted(maps.Keys(fields(t)))); near != "" {
					err = fmt.Errorf("%w: did you mean %q?", err, join(at, near))
				}
				return err
			}
			if err := known(value, field, join(at, key.Value)); err != nil {
				return err
			}
		}
	}
	return nil
}

func join(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

// fields are the types of a section's keys.
func fields(t reflect.Type) map[string]reflect.Type {
	m := map[string]reflect.Type{}
	for i := range t.NumField() {
		m[t.Field(i).Tag.Get("yaml")] = t.Field(i).Type
	}
	return m
}

// maxWord bounds the bytes of a word that are compared.
const maxWord = 64

// nearest is the key that takes the fewest edits, at most a third of its length or two; "" if none does.
func nearest(word string, keys []string) string {
	best, fewest := "", 0
	for _, key := range keys {
		d := levenshtein.ComputeDistance(word[:min(len(word), maxWord)], key)
		if d <= max(2, len(key)/3) && (best == "" || d < fewest) {
			best, fewest = key, d
		}
	}
	return best
}

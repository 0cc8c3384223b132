// SPDX-License-Identifier: Apache-2.0

package span

import "strings"

// Attrs reads the attributes of one span by key; they are some thirty, a map would cost more. An attribute of another
// kind than the one asked for counts as absent.
type Attrs []Attr

// Find is nil if no attribute has this key.
func (a Attrs) Find(key string) *Attr {
	for i := range a {
		if a[i].Key == key {
			return &a[i]
		}
	}
	return nil
}

// Text is the value of a string attribute, "" without one.
func (a Attrs) Text(key string) string {
	if f := a.Find(key); f != nil && f.Kind == StringAttr {
		return f.Str
	}
	return ""
}

// Int is the value of an integer attribute, and whether there is one.
func (a Attrs) Int(key string) (int64, bool) {
	if f := a.Find(key); f != nil && f.Kind == IntAttr {
		return f.Int, true
	}
	return 0, false
}

// Is reports whether a flag is there and set.
func (a Attrs) Is(key string) bool {
	f := a.Find(key)
	return f != nil && f.Kind == BoolAttr && f.Int != 0
}

// List is the value of a list, nil without one.
func (a Attrs) List(key string) []string {
	if f := a.Find(key); f != nil && f.Kind == StringsAttr {
		return f.List
	}
	return nil
}

// Clip cuts a text to its first n bytes, at the end of a character, and puts an ellipsis behind them. It keeps
// nothing of the memory of a longer text.
func Clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return strings.Clone(s[:n]) + "…"
}

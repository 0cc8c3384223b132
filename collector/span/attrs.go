// SPDX-License-Identifier: Apache-2.0

package span

// Attrs reads the attributes of one span by key; they are some thirty, a map would cost more. What has another kind than the one
// asked for is as if it were not there.
type Attrs []Attr

// Find is nil if there is none of this key.
func (a Attrs) Find(key string) *Attr {
	for i := range a {
		if a[i].Key == key {
			return &a[i]
		}
	}
	return nil
}

// Text is "" if there is none.
func (a Attrs) Text(key string) string {
	if f := a.Find(key); f != nil && f.Kind == StringAttr {
		return f.Str
	}
	return ""
}

// Int says whether there is one.
func (a Attrs) Int(key string) (int64, bool) {
	if f := a.Find(key); f != nil && f.Kind == IntAttr {
		return f.Int, true
	}
	return 0, false
}

// Is says whether there is a flag that is set.
func (a Attrs) Is(key string) bool {
	f := a.Find(key)
	return f != nil && f.Kind == BoolAttr && f.Int != 0
}

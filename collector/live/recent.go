// SPDX-License-Identifier: Apache-2.0

package live

// Bounds of what is recent. What is forgotten costs the kernel side a little more, no record.
const (
	maxDismissed = 8192
	maxDeclined  = 4096
)

// A recent is a map of what was added last: when a half of it is full, the older half is forgotten. It is for keys of
// which nobody reports that they are over.
type recent[K comparable, V any] struct {
	most        int // in each half
	now, before map[K]V
}

func (r *recent[K, V]) has(key K) bool {
	_, ok := r.now[key]
	if !ok {
		_, ok = r.before[key]
	}
	return ok
}

func (r *recent[K, V]) add(key K, value V) {
	if r.now == nil || len(r.now) >= r.most {
		r.now, r.before = map[K]V{}, r.now
	}
	r.now[key] = value
}

// drop removes a key, and gives what it had.
func (r *recent[K, V]) drop(key K) (value V, ok bool) {
	if value, ok = r.now[key]; !ok {
		value, ok = r.before[key]
	}
	delete(r.now, key)
	delete(r.before, key)
	return value, ok
}

// SPDX-License-Identifier: Apache-2.0

package effect

// A table is a map that is a short list as long as it has few keys.
type table[K comparable, V any] struct {
	first [16]row[K, V]
	few   int
	all   map[K]V // instead, once there were more
}

type row[K comparable, V any] struct {
	key   K
	value V
}

// find gives the place of a key in the list, or -1.
func (t *table[K, V]) find(key K) int {
	for i := range t.first[:t.few] {
		if t.first[i].key == key {
			return i
		}
	}
	return -1
}

func (t *table[K, V]) get(key K) (value V) {
	if t.all != nil {
		return t.all[key]
	}
	if i := t.find(key); i >= 0 {
		value = t.first[i].value
	}
	return value
}

func (t *table[K, V]) set(key K, value V) {
	i := t.find(key)
	switch {
	case t.all != nil:
		t.all[key] = value
	case i >= 0:
		t.first[i].value = value
	case t.few < len(t.first):
		t.first[t.few] = row[K, V]{key, value}
		t.few++
	default:
		t.all = make(map[K]V, 2*len(t.first))
		for _, r := range t.first {
			t.all[r.key] = r.value
		}
		t.all[key] = value
		clear(t.first[:])
		t.few = 0
	}
}

func (t *table[K, V]) delete(key K) {
	delete(t.all, key)
	if i := t.find(key); i >= 0 {
		t.few--
		t.first[i], t.first[t.few] = t.first[t.few], row[K, V]{}
	}
}

func (t *table[K, V]) len() int { return t.few + len(t.all) }

// each calls with all values, in no order.
func (t *table[K, V]) each(do func(V)) {
	for _, r := range t.first[:t.few] {
		do(r.value)
	}
	for _, v := range t.all {
		do(v)
	}
}

func (t *table[K, V]) clear() {
	clear(t.first[:t.few])
	t.few, t.all = 0, nil
}

// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"container/list"

	"github.com/sheetbend/sheetbend/collector/attribution"
)

// bounded keeps values of sandboxes, up to so many of each and of all. For one more that one goes that was not used for
// longest, of its sandbox or else of all.
type bounded[K comparable, V any] struct {
	each, all int
	by        map[K]*bound[K, V]
	order     list.List                           // of *bound, the last used at the back
	of        map[*attribution.Sandbox]*list.List // the same, of each
}

type bound[K comparable, V any] struct {
	key        K
	value      V
	sandbox    *attribution.Sandbox
	own, total *list.Element
}

func newBounded[K comparable, V any](each, all int) bounded[K, V] {
	return bounded[K, V]{each: each, all: all, by: make(map[K]*bound[K, V]), of: make(map[*attribution.Sandbox]*list.List)}
}

// put keeps a value in the place of an older one of the key, which must be the same sandbox's.
func (l *bounded[K, V]) put(sb *attribution.Sandbox, key K, value V) {
	if b := l.by[key]; b != nil {
		b.value = value
		l.get(key)
		return
	}
	if own := l.of[sb]; own != nil && own.Len() >= l.each {
		l.take(own.Front().Value.(*bound[K, V]).key)
	}
	if len(l.by) >= l.all {
		l.take(l.order.Front().Value.(*bound[K, V]).key)
	}
	own := l.of[sb]
	if own == nil {
		own = &list.List{}
		l.of[sb] = own
	}
	b := &bound[K, V]{key: key, value: value, sandbox: sb}
	b.own, b.total = own.PushBack(b), l.order.PushBack(b)
	l.by[key] = b
}

// get gives a value, which is used by that. The zero value: there is none.
func (l *bounded[K, V]) get(key K) (value V) {
	b := l.by[key]
	if b == nil {
		return value
	}
	l.of[b.sandbox].MoveToBack(b.own)
	l.order.MoveToBack(b.total)
	return b.value
}

// take gives a value and forgets it. The zero value: there is none.
func (l *bounded[K, V]) take(key K) (value V) {
	b := l.by[key]
	if b == nil {
		return value
	}
	delete(l.by, key)
	l.order.Remove(b.total)
	own := l.of[b.sandbox]
	if own.Remove(b.own); own.Len() == 0 {
		delete(l.of, b.sandbox)
	}
	return b.value
}

// forget forgets the values of a sandbox.
func (l *bounded[K, V]) forget(sb *attribution.Sandbox) {
	for l.of[sb] != nil {
		l.take(l.of[sb].Front().Value.(*bound[K, V]).key)
	}
}

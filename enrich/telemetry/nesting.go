// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"container/list"
	"sync"

	"github.com/sheetbend/sheetbend/collector/record"
)

// Some agents make calls of their own within a call of the model, with ids of their own (agents.Env.Nested). In their
// traces the span of the model's call is an ancestor of that of the nested one, or shares the id of an execution
// (agents.Telemetry.Execution) with one. It ends after it: often it comes in a later request. So the spans of each sender
// are kept for a while.

// Bounds of what is kept.
const (
	maxTrees     = 16   // senders
	maxTreeSpans = 4096 // of one sender, and of one request
	maxWaiting   = 256  // nested calls of one sender whose call of the model is not known yet
	maxHeight    = 64   // spans above one
	maxAbove     = 256  // bytes of a call's id
)

// nesting joins nested calls with those of the model. It is safe for concurrent use.
type nesting struct {
	mu    sync.Mutex
	trees map[nestingKey]*list.Element // in order
	order list.List                    // of *spanTree, the one that was not used for longest first
}

// A nestingKey is who sends: nobody can put a span above those of another process. Where that is not known, it is what
// limits are counted for.
type nestingKey struct {
	sender Sender
	client string
}

type spanTree struct {
	key        nestingKey
	spans      map[spanKey]spanAbove
	executions map[string]string // the calls of the model that they are, by their ids
	order      list.List         // of spanKey, oldest first
	waiting    map[missing][]*list.Element
	waits      list.List // of waitingNested, oldest first
}

// missing is what a nested call waits for: a span, or the call of an execution.
type missing struct {
	span      spanKey
	execution string
}

type spanKey struct {
	trace [16]byte
	span  [8]byte
}

// spanAbove is what stands above a span, and the call of the model and the execution that it stands for; "": none.
type spanAbove struct {
	parent          [8]byte
	call, execution string
}

type waitingNested struct {
	missing missing
	said    record.Said
}

// spanSeen is a span of a request whose agent makes nested calls.
type spanSeen struct {
	key spanKey
	spanAbove
}

// join adds the calls of the model to the facts of a request about nested calls, and to it the facts of earlier ones
// whose call of the model is known by it. It returns how many it has given up.
func (n *nesting) join(key nestingKey, f *facts) (lost int) {
	if len(f.spans) == 0 {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.tree(key, &lost)
	for _, s := range f.spans {
		if before, known := t.spans[s.key]; !known {
			t.order.PushBack(s.key)
		} else if before.call != "" {
			delete(t.executions, before.execution)
		}
		t.spans[s.key] = s.spanAbove
		if s.call != "" && s.execution != "" {
			t.executions[s.execution] = s.call
		}
		if t.order.Len() > maxTreeSpans {
			oldest := t.order.Remove(t.order.Front()).(spanKey)
			if s := t.spans[oldest]; s.call != "" {
				delete(t.executions, s.execution)
			}
			delete(t.spans, oldest)
		}
	}
	for i := range f.found {
		if s := &f.found[i].said; f.found[i].nested {
			lost += t.find(spanKey{s.Trace, s.Span}, s)
		}
	}
	for _, s := range f.spans {
		lost += t.resume(missing{span: s.key}, s.key, f)
		if s.call != "" && s.execution != "" {
			lost += t.resume(missing{execution: s.execution}, s.key, f)
		}
	}
	return lost
}

// resume goes on from a span with the nested calls that waited for it.
func (t *spanTree) resume(m missing, at spanKey, f *facts) (lost int) {
	late := t.waiting[m]
	delete(t.waiting, m)
	for _, e := range late {
		w := t.waits.Remove(e).(waitingNested)
		lost += t.find(at, &w.said)
		if w.said.More.Get(record.MoreParent) != "" {
			f.add(fact{said: w.said})
		}
	}
	return lost
}

// tree gives the spans of a sender.
func (n *nesting) tree(key nestingKey, lost *int) *spanTree {
	if e := n.trees[key]; e != nil {
		n.order.MoveToBack(e)
		return e.Value.(*spanTree)
	}
	if n.order.Len() >= maxTrees {
		oldest := n.order.Remove(n.order.Front()).(*spanTree)
		delete(n.trees, oldest.key)
		*lost += oldest.waits.Len()
	}
	if n.trees == nil {
		n.trees = map[nestingKey]*list.Element{}
	}
	t := &spanTree{key: key, spans: map[spanKey]spanAbove{}, executions: map[string]string{}, waiting: map[missing][]*list.Element{}}
	n.trees[key] = n.order.PushBack(t)
	return t
}

// find adds the call of the model at or above a span to a fact, or has it wait for the span that is missing.
func (t *spanTree) find(at spanKey, s *record.Said) (lost int) {
	for range maxHeight {
		above, known := t.spans[at]
		call := above.call
		if call == "" {
			call = t.executions[above.execution]
		}
		switch {
		case !known:
			return t.wait(missing{span: at}, s)
		case call != "":
			s.More = s.More.With(record.MoreParent, call)
			return 0
		case above.execution != "":
			return t.wait(missing{execution: above.execution}, s)
		case above.parent == [8]byte{}:
			return 0 // the root of the trace: no call of the model is above
		}
		at.span = above.parent
	}
	return 1
}

func (t *spanTree) wait(m missing, s *record.Said) (lost int) {
	t.waiting[m] = append(t.waiting[m], t.waits.PushBack(waitingNested{m, *s}))
	if t.waits.Len() <= maxWaiting {
		return 0
	}
	t.giveUp()
	return 1
}

// giveUp forgets the nested call that waits for longest.
func (t *spanTree) giveUp() {
	w := t.waits.Remove(t.waits.Front()).(waitingNested)
	if rest := t.waiting[w.missing][1:]; len(rest) > 0 {
		t.waiting[w.missing] = rest
	} else {
		delete(t.waiting, w.missing)
	}
}

// SPDX-License-Identifier: Apache-2.0

package chaostest

import (
	"fmt"
	"strings"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// kinds are what the generator does, and the spans that are made of it.
var kinds = map[string]string{"exec": "process.exec", "open": "file.open", "connect": "net.connect"}

// A ledger holds, by kind, what was done, what arrived and what was reported lost.
type ledger struct {
	generated, received, lost map[string]int
	// anyKind are lost spans of which the sensor does not know the kind any more: those dropped by an exporter, as
	// encoded batches.
	anyKind int
	// untold are kinds of which lost records may be of things that the generator does not tell of.
	untold map[string]bool
}

// balance says what does not add up. Without losses of unknown kind: received + reported lost = generated, for each
// kind.
func (l ledger) balance() error {
	missing := 0
	var wrong []string
	for kind, done := range l.generated {
		left := done - l.received[kind] - l.lost[kind]
		missing += max(left, 0)
		if left < 0 && (!l.untold[kind] || l.received[kind] > done) {
			wrong = append(wrong, fmt.Sprintf("%s: %d too many", kind, -left))
		}
	}
	if missing > l.anyKind {
		wrong = append(wrong, fmt.Sprintf("%d are neither received nor reported lost", missing-l.anyKind))
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("%s: generated %v, received %v, lost %v and %d of any kind", strings.Join(wrong, "; "), l.generated, l.received, l.lost, l.anyKind)
}

func (l ledger) String() string {
	return fmt.Sprintf("generated %v, received %v, reported lost %v and %d of any kind", l.generated, l.received, l.lost, l.anyKind)
}

// ledger counts what the backend has of the generator's. What a backend rejected it has reported itself.
func (b *backend) ledger(generated map[string]int) ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := ledger{generated: generated, received: map[string]int{}, lost: map[string]int{}}
	count := func(spans []*tracepb.Span, to map[string]int) {
		for _, s := range spans {
			for kind, name := range kinds {
				if attr(s, "sheetbend.event") == name && ofGenerator(s) {
					to[kind]++
				}
			}
		}
	}
	count(b.order, l.received)
	for _, s := range b.rejected {
		if b.spans[string(s.TraceId)+string(s.SpanId)] == nil {
			count([]*tracepb.Span{s}, l.lost)
		}
	}
	return l
}

// told is what the trace says was lost. Losses of a cgroup of which no record told are told in each session that they
// may belong to.
func (b *backend) told() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := map[string]int{}
	for _, s := range b.order {
		if attr(s, "sheetbend.event") == "sensor.loss" {
			n[attr(s, "sheetbend.lost.kind")] += number(s, "sheetbend.lost")
		}
	}
	return n
}

// ofGenerator leaves out what programs of the generator do besides what they tell of: Go's runtime opens files, too.
func ofGenerator(s *tracepb.Span) bool {
	switch attr(s, "sheetbend.event") {
	case "process.exec": // one that was found by a look is told of, but its exec was not, and stand-ins are no programs
		return !flag(s, "sheetbend.process.preexisting") && !flag(s, "sheetbend.stand_in")
	case "file.open":
		return attr(s, "sheetbend.file.access") == "create"
	case "net.connect":
		return attr(s, "network.transport") == "tcp"
	}
	return true
}

func TestTheLedgerSeesWhatIsMissingAndWhatIsTooMuch(t *testing.T) {
	count := func(exec, open int) map[string]int { return map[string]int{"exec": exec, "open": open} }
	for _, c := range []struct {
		l  ledger
		ok bool
	}{
		{ledger{count(5, 5), count(5, 5), nil, 0, nil}, true},
		{ledger{count(5, 5), count(3, 5), count(2, 0), 0, nil}, true},
		{ledger{count(5, 5), count(3, 5), count(0, 2), 0, nil}, false},
		{ledger{count(5, 5), count(4, 5), nil, 0, nil}, false},
		{ledger{count(5, 5), count(6, 5), nil, 1, nil}, false},
		{ledger{count(5, 5), count(4, 4), nil, 2, nil}, true},
		{ledger{count(5, 5), count(4, 4), nil, 1, nil}, false},
		{ledger{count(5, 5), count(5, 4), count(0, 9), 0, map[string]bool{"open": true}}, true},
		{ledger{count(5, 5), count(5, 6), count(0, 9), 0, map[string]bool{"open": true}}, false},
		{ledger{count(5, 5), count(5, 4), nil, 0, map[string]bool{"open": true}}, false},
	} {
		if err := c.l.balance(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.l, err)
		}
	}
}

func flag(s *tracepb.Span, key string) bool {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetBoolValue()
		}
	}
	return false
}

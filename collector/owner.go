// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"container/list"
	"strconv"
	"time"

	"github.com/sheetbend/sheetbend/collector/span"
)

// traces deals out the traces of a session outside of calls, or of one call: a trace ends when
// it is old or full, because backends keep only so much of one.
type traces struct {
	session, call string
	trace         span.TraceID
	slice         uint64
	began         uint64 // boottime of the slice's first span
	spans         int    // in this slice; 0: none yet
	foreign       bool   // the trace is the agent's own; the next one is our slice 0
}

func newTraces(session, call string) traces {
	return traces{session: session, call: call, trace: span.TraceFor(session, call, 0)}
}

// place counts one span in and says which trace it goes to.
func (t *traces) place(now uint64, maxSpans int, slice time.Duration) span.TraceID {
	old := now > t.began && now-t.began >= uint64(slice)
	if t.spans > 0 && (old || t.spans >= maxSpans) {
		if !t.foreign {
			t.slice++
		}
		t.foreign = false
		t.spans = 0
		t.trace = span.TraceFor(t.session, t.call, t.slice)
	}
	if t.spans == 0 {
		t.began = now
	}
	t.spans++
	return t.trace
}

// An owner is whom spans are told to: a session.
type owner struct {
	traces
	link span.Link // of every root span

	claimed bool          // by an agent; not configured or made here
	uid     uint32        // whose agent it was; with claimed
	place   string        // and in which place, as sandbox.place; with claimed
	users   int           // sandboxes and agents that share the session
	retired *list.Element // in owners.retired while users is 0
}

// owners finds sessions by id. A session without users is remembered for a while: if
// a sandbox of the same name comes back, its spans must not start again in slice 0.
type owners struct {
	bySession map[string]*owner
	retired   list.List // of *owner, oldest first
}

const maxRetiredOwners = 1024

// ofUser is between a session's id and a user in the names of sessions that another user's agent had first. No agent's own
// session id has it.
const ofUser = " of uid "

// claim gives an agent's session to a user, under the name that nameFor gives.
func (os *owners) claim(name string, uid uint32, place string) *owner {
	o := os.acquire(name)
	if o.users == 1 {
		o.claimed, o.uid, o.place = true, uid, place
	}
	return o
}

// nameFor is what spans call the session of a user's agent: its id, unless that is what another user's agent said first. So
// nobody keeps another user's agent from its session, or puts anything in it, by being earlier.
func (os *owners) nameFor(session string, uid uint32) string {
	if o := os.bySession[session]; o != nil && o.claimed && o.uid != uid {
		return session + ofUser + strconv.FormatUint(uint64(uid), 10)
	}
	return session
}

// elsewhere says whether an agent in another place has had the session. It is over, and stays that one's.
func (os *owners) elsewhere(session, place string) bool {
	o := os.bySession[session]
	return o != nil && o.claimed && o.place != place
}

// taken says whether a session has users.
func (os *owners) taken(session string) bool {
	o := os.bySession[session]
	return o != nil && o.users > 0
}

func (os *owners) acquire(session string) *owner {
	o := os.bySession[session]
	if o == nil {
		o = &owner{traces: newTraces(session, "")}
		o.link = span.Link{Trace: o.trace, Span: span.SessionSpan(session)}
		os.bySession[session] = o
	}
	if o.users == 0 {
		o.claimed = false
	}
	if o.retired != nil {
		os.retired.Remove(o.retired)
		o.retired = nil
	}
	o.users++
	return o
}

func (os *owners) release(o *owner) {
	o.users--
	if o.users > 0 {
		return
	}
	o.retired = os.retired.PushBack(o)
	if os.retired.Len() > maxRetiredOwners {
		oldest := os.retired.Remove(os.retired.Front()).(*owner)
		oldest.retired = nil
		delete(os.bySession, oldest.session)
	}
}

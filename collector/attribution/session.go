// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"cmp"
	"container/list"
	"strconv"
)

// A Session is what spans call their session.
type Session struct {
	SessionName string

	claimed bool          // by an agent that nobody started in a call; not configured or made here
	of      Holder        // with claimed: whose it is. Without: of whose share it is
	Users   int           // sandboxes and agents that share the session
	Left    int           // agents among them that are over, but for what their calls left running
	retired *list.Element // in sessions.retired while Users is 0
	shares  [2]*int       // then: how many of the place are there, and of the user in it
}

// A Holder is whose a session is: that of agents of one kind, user and place.
type Holder struct {
	place   string // as Sandbox.place
	uid     uint32
	dialect string // "": a harness, or not known
}

// sessions finds sessions by id. A session without users is remembered for a while: no agent takes over one that was
// another's.
type sessions struct {
	BySession map[string]*Session
	retired   list.List // of *Session, oldest first
	Shares    map[share]*int
}

// A share is what is remembered of a place, or of one user in it.
type share struct {
	place string
	uid   int64 // -1: all
}

const MaxRetiredOwners = 1024

// ofUser is between a session's id and a user in the names of sessions that another user's agent had first. No agent's
// own session id has it.
const ofUser = " of uid "

// nameFor is what spans call the session of a user's agent: its id, unless that is what another user's agent said
// first. So nobody keeps another user's agent from its session, or puts anything in it, by being earlier.
func (os *sessions) nameFor(session string, uid uint32) string {
	if o := os.BySession[session]; o != nil && o.claimed && o.of.uid != uid {
		return session + ofUser + strconv.FormatUint(uint64(uid), 10)
	}
	return session
}

// another says whether the session was had by another kind of agent, or in another place. It is over, and stays that
// one's. A harness, which somebody outside of all sandboxes speaks for, is of any kind.
func (os *sessions) another(session string, h Holder) bool {
	o := os.BySession[session]
	return o != nil && o.claimed && (o.of.place != h.place || o.of.dialect != h.dialect && h.dialect != "")
}

// taken says whether a session is in use.
func (os *sessions) taken(session string) bool {
	o := os.BySession[session]
	return o != nil && o.Users > o.Left
}

// get gives the owner of a session, which is made if there is none.
func (os *sessions) get(session string, h Holder) *Session {
	o := os.BySession[session]
	if o == nil {
		o = &Session{SessionName: session, of: h}
		os.BySession[session] = o
	}
	return o
}

func (os *sessions) Acquire(session string, h Holder) *Session {
	o := os.get(session, h)
	os.restore(o)
	if o.Users == 0 {
		o.claimed, o.of = false, h
	}
	o.Users++
	return o
}

// restore takes an owner from those that are not in use.
func (os *sessions) restore(o *Session) {
	if o.retired == nil {
		return
	}
	os.retired.Remove(o.retired)
	o.retired = nil
	for i, k := range o.keys() {
		if *o.shares[i]--; *o.shares[i] == 0 {
			delete(os.Shares, k)
		}
	}
}

func (o *Session) keys() [2]share { return [2]share{{o.of.place, -1}, {o.of.place, int64(o.of.uid)}} }

func (os *sessions) Release(o *Session) {
	o.Users--
	if o.Users == 0 {
		os.retire(o)
	}
}

// retire remembers a session without users.
func (os *sessions) retire(o *Session) {
	for i, k := range o.keys() {
		n := os.Shares[k]
		if n == nil {
			n = new(int)
			os.Shares[k] = n
		}
		*n++
		o.shares[i] = n
	}
	o.retired = os.retired.PushBack(o)
	if os.retired.Len() > MaxRetiredOwners {
		least := os.least()
		os.restore(least)
		delete(os.BySession, least.SessionName)
	}
}

// least gives the session to forget: of the place with the most, of the user with the most there, the oldest; and one
// that is no agent's before one that is.
func (os *sessions) least() *Session {
	var least *Session
	for e := os.retired.Front(); e != nil; e = e.Next() {
		o := e.Value.(*Session)
		if least == nil {
			least = o
			continue
		}
		place, user := cmp.Compare(*o.shares[0], *least.shares[0]), cmp.Compare(*o.shares[1], *least.shares[1])
		if cmp.Or(place, user) > 0 || place == 0 && user == 0 && least.claimed && !o.claimed {
			least = o
		}
	}
	return least
}

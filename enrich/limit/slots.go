// SPDX-License-Identifier: Apache-2.0

// Package limit shares the connections of a local server among the clients that make them.
package limit

import (
	"slices"
	"sync"
	"time"
)

// Slots are the places for connections to a server, with an account A of each client K that has had one. Who keeps
// connections open keeps nobody out: when a client has too many, or all have, the connection of that client, or of
// the one that has most, which was not used for longest has to go. The fields do not change once a slot was taken.
// The methods are safe for concurrent use.
type Slots[K comparable, A any] struct {
	Most       int                      // connections of all
	MostEach   int                      // connections of one client
	Clients    int                      // that are remembered
	Privileged func(K) bool             // has MostEach more, and an account in any case; nil: nobody
	Open       func() A                 // the account of a new client
	Idle       func(*A, time.Time) bool // as good as new: may be forgotten without connections

	mu        sync.Mutex
	accounts  map[K]*account[A]
	taken     int
	displaced uint64
}

type account[A any] struct {
	slots []*Slot[A] // the one that was not used for longest first
	of    A
}

// A Slot is the place of one connection.
type Slot[A any] struct {
	account *account[A]
	evict   func()
}

// Account is that of the client that has the slot. Slots does not lock it.
func (s *Slot[A]) Account() *A { return &s.account.of }

// Take takes a slot, which Leave gives back; nil if there is none. evict ends the connection when it has to go; it
// is called with the slots locked.
func (s *Slots[K, A]) Take(client K, now time.Time, evict func()) *Slot[A] {
	s.mu.Lock()
	defer s.mu.Unlock()
	privileged := s.Privileged != nil && s.Privileged(client)
	a := s.accounts[client]
	if a == nil {
		if len(s.accounts) >= s.Clients {
			s.forget(now)
		}
		if len(s.accounts) >= s.Clients && !privileged {
			return nil
		}
		if s.accounts == nil {
			s.accounts = map[K]*account[A]{}
		}
		a = &account[A]{of: s.Open()}
		s.accounts[client] = a
	}
	most := s.Most
	if privileged {
		most += s.MostEach
	}
	switch {
	case len(a.slots) >= s.MostEach:
		s.displace(a)
	case s.taken >= most:
		largest := a
		for _, other := range s.accounts {
			if len(other.slots) > len(largest.slots) {
				largest = other
			}
		}
		if len(largest.slots) < 2 {
			return nil
		}
		s.displace(largest)
	}
	slot := &Slot[A]{a, evict}
	a.slots = append(a.slots, slot)
	s.taken++
	return slot
}

func (s *Slots[K, A]) displace(a *account[A]) {
	slot := a.slots[0]
	s.drop(slot)
	s.displaced++
	slot.evict()
}

// Used makes the connection the last of its client's to go.
func (s *Slots[K, A]) Used(slot *Slot[A]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drop(slot) {
		slot.account.slots = append(slot.account.slots, slot)
		s.taken++
	}
}

// Leave does nothing with a slot that was left, or displaced, before.
func (s *Slots[K, A]) Leave(slot *Slot[A]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(slot)
}

func (s *Slots[K, A]) drop(slot *Slot[A]) bool {
	a := slot.account
	i := slices.Index(a.slots, slot)
	if i < 0 {
		return false
	}
	a.slots = slices.Delete(a.slots, i, i+1)
	s.taken--
	return true
}

// Count gives the connections that there are, and how many had to go so far.
func (s *Slots[K, A]) Count() (taken int, displaced uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken, s.displaced
}

// forget makes room for accounts.
func (s *Slots[K, A]) forget(now time.Time) {
	for client, a := range s.accounts {
		if len(a.slots) == 0 && s.Idle(&a.of, now) {
			delete(s.accounts, client)
		}
	}
}

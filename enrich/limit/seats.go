// SPDX-License-Identifier: Apache-2.0

// Package limit shares the connections of a local server among the parties that make them.
package limit

import "slices"

// Seats are the places for connections to a server, and an account A of each party K that has had one. Whoever keeps
// connections open keeps nobody out: when a party has too many, or all have, the connection of that party, or of the one that
// has most, which was not used for longest has to go. Seats are not safe for concurrent use: their owner locks.
type Seats[K comparable, A any] struct {
	Most      int           // connections of all
	MostEach  int           // connections of one party
	Parties   int           // that are remembered
	Privilege func(K) bool  // has MostEach more, and an account in any case; nil: nobody
	Open      func() A      // the account of a new party
	Idle      func(*A) bool // says of an account that it is as good as new: that of a party without connections is forgotten

	byParty   map[K]*account[A]
	taken     int
	displaced uint64
}

type account[A any] struct {
	seats []*Seat[A] // the one that was not used for longest first
	of    A
}

// A Seat is the place of one connection.
type Seat[A any] struct {
	account *account[A]
	vacate  func()
}

// Account is that of the party that has the seat.
func (s *Seat[A]) Account() *A { return &s.account.of }

// Take takes a seat, which Leave gives back; nil if there is none. vacate ends the connection when it has to go.
func (s *Seats[K, A]) Take(party K, vacate func()) *Seat[A] {
	privileged := s.Privilege != nil && s.Privilege(party)
	a := s.byParty[party]
	if a == nil {
		if len(s.byParty) >= s.Parties {
			s.forget()
		}
		if len(s.byParty) >= s.Parties && !privileged {
			return nil
		}
		if s.byParty == nil {
			s.byParty = map[K]*account[A]{}
		}
		a = &account[A]{of: s.Open()}
		s.byParty[party] = a
	}
	most := s.Most
	if privileged {
		most += s.MostEach
	}
	switch {
	case len(a.seats) >= s.MostEach:
		s.displace(a)
	case s.taken >= most:
		largest := a
		for _, other := range s.byParty {
			if len(other.seats) > len(largest.seats) {
				largest = other
			}
		}
		if len(largest.seats) < 2 {
			return nil
		}
		s.displace(largest)
	}
	seat := &Seat[A]{a, vacate}
	a.seats = append(a.seats, seat)
	s.taken++
	return seat
}

func (s *Seats[K, A]) displace(a *account[A]) {
	seat := a.seats[0]
	s.Leave(seat)
	s.displaced++
	seat.vacate()
}

// Used says that the connection has been of use.
func (s *Seats[K, A]) Used(seat *Seat[A]) {
	a := seat.account
	if i := slices.Index(a.seats, seat); i >= 0 {
		a.seats = append(slices.Delete(a.seats, i, i+1), seat)
	}
}

// Leave does nothing with a seat that was left, or taken away, before.
func (s *Seats[K, A]) Leave(seat *Seat[A]) {
	a := seat.account
	if i := slices.Index(a.seats, seat); i >= 0 {
		a.seats = slices.Delete(a.seats, i, i+1)
		s.taken--
	}
}

// Taken is how many connections there are.
func (s *Seats[K, A]) Taken() int { return s.taken }

// Displaced is how many connections had to go.
func (s *Seats[K, A]) Displaced() uint64 { return s.displaced }

// forget makes room for accounts.
func (s *Seats[K, A]) forget() {
	for party, a := range s.byParty {
		if len(a.seats) == 0 && s.Idle(&a.of) {
			delete(s.byParty, party)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/proc"
)

// pair is a TCP connection of this host, the end that a server has first.
func pair(t *testing.T, address string) (served, other *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip(err) // a host without IPv6
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(); _ = c.Close() })
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// ownHolder says of each socket that this process has it open.
func ownHolder(inodes []uint32, yield func(inode, tgid uint32, start uint64)) error {
	start, err := proc.Start("/proc", uint32(os.Getpid()))
	for _, inode := range inodes {
		yield(inode, uint32(os.Getpid()), start)
	}
	return err
}

func inodeOf(t *testing.T, c *net.TCPConn) uint32 {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if ctlErr := raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) }); err != nil || ctlErr != nil {
		t.Fatal(err, ctlErr)
	}
	return uint32(st.Ino)
}

func TestTheOtherEndOfAConnectionIsThatOfTheProcessThatHasIt(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "127.0.0.7:0", "[::1]:0", "[::]:0", "0.0.0.0:0"} {
		t.Run(address, func(t *testing.T) {
			served, other := pair(t, address)
			e, err := otherEnd(served)
			if err != nil || e != (end{uint32(os.Geteuid()), inodeOf(t, other)}) {
				t.Fatalf("%+v, %v; want inode %d", e, err, inodeOf(t, other))
			}
			remote, local := served.RemoteAddr().(*net.TCPAddr), served.LocalAddr().(*net.TCPAddr)
			if fromTable, err := lookInTable(remote, local); err != nil || fromTable != e {
				t.Errorf("the table says %+v, %v", fromTable, err)
			}
			_ = other.Close()
			if e, err := otherEnd(served); err == nil {
				t.Errorf("%+v, although it is closed", e)
			}
		})
	}
}

func TestOneWalkServesAllWhoWaitForOne(t *testing.T) {
	walks, goOn := make(chan []uint32), make(chan struct{})
	broken := errors.New("broken")
	failing := true
	s := &searches{find: func(inodes []uint32, yield func(inode, tgid uint32, start uint64)) error {
		walks <- inodes
		<-goOn
		if failing {
			return broken
		}
		for range 2 { // two descriptors
			yield(2, 20, 200)
			yield(3, 30, 300)
			yield(3, 31, 310)
		}
		for n := range uint32(1000) {
			yield(3, n, 1)
		}
		return nil
	}}
	type answer struct {
		found []Sender
		err   error
	}
	answers := map[uint32]chan answer{}
	search := func(inode uint32) {
		answers[inode] = make(chan answer, 1)
		go func() {
			found, err := s.holders(end{uid: 5, inode: inode})
			answers[inode] <- answer{found, err}
		}()
	}
	search(1)
	waiting := func(n int) {
		until(t, "they wait", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.next != nil && len(s.next.inodes) == n
		})
	}
	if got := <-walks; !slices.Equal(got, []uint32{1}) {
		t.Errorf("the first walk is for %v", got)
	}
	for n, inode := range []uint32{2, 3, 4} {
		search(inode)
		waiting(n + 1)
	}
	goOn <- struct{}{}
	if got := <-answers[1]; !errors.Is(got.err, broken) {
		t.Errorf("%+v", got)
	}
	failing = false
	if got := <-walks; !slices.Equal(got, []uint32{2, 3, 4}) {
		t.Errorf("the second is for %v", got)
	}
	began := time.Now()
	goOn <- struct{}{}
	many := []Sender{{30, 300, 5}, {31, 310, 5}} // and not all of them
	for n := range uint32(maxHolders + 1 - len(many)) {
		many = append(many, Sender{n, 1, 5})
	}
	for inode, want := range map[uint32][]Sender{2: {{20, 200, 5}}, 3: many, 4: nil} {
		if got := <-answers[inode]; got.err != nil || !slices.Equal(got.found, want) {
			t.Errorf("of %d: %+v, want %+v", inode, got, want)
		}
	}
	if pause := s.free.Sub(began); pause < searchPause {
		t.Errorf("the next walk waits for %s", pause)
	}
}

func TestLoopbackIsCountedForEachUser(t *testing.T) {
	served, _ := pair(t, "127.0.0.1:0")
	if o := identify(served); o.key != fmt.Sprintf("uid %d", os.Geteuid()) || o.other.inode == 0 || !o.local {
		t.Errorf("%+v", o)
	}
}

func FuzzParseDiag(f *testing.F) {
	f.Add(make([]byte, nlHeader+diagAnswerBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := parseDiag(b); err == nil && e.inode == 0 {
			t.Errorf("%+v", e)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
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

func newSearches() *searches {
	return &searches{budget: rate.NewLimiter(1, 10)}
}

// one is the only process of a search; zero if there is none or another one, too.
func one(found []Sender, ok bool) Sender {
	if !ok || len(found) != 1 {
		return Sender{}
	}
	return found[0]
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
			own, err := startOf(int32(os.Getpid()))
			if got := one(newSearches().holders(e, time.Unix(0, 0))); err != nil || got != (Sender{uint32(os.Getpid()), own, uint32(os.Geteuid())}) || !got.Known() {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestAnEndThatIsClosedOrThatTwoProcessesHaveIsOfNobody(t *testing.T) {
	served, other := pair(t, "127.0.0.1:0")
	e, err := otherEnd(served)
	if err != nil {
		t.Fatal(err)
	}
	file, err := other.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command("cat")
	cmd.ExtraFiles = []*os.File{file}
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := one(newSearches().holders(e, time.Unix(0, 0))); got.Known() {
		t.Errorf("of %+v, although two have it", got)
	}
	_ = in.Close()
	_ = cmd.Wait()
	if got := one(newSearches().holders(e, time.Unix(0, 0))); got.PID != uint32(os.Getpid()) {
		t.Errorf("of %+v, want this process", got)
	}
	_ = file.Close()
	_ = other.Close()
	if got := one(newSearches().holders(e, time.Unix(0, 0))); got.Known() {
		t.Errorf("of %+v, although it is closed", got)
	}
	if e, err := otherEnd(served); err == nil {
		t.Errorf("%+v, although it is closed", e)
	}
}

func TestSearchesHaveARate(t *testing.T) {
	served, _ := pair(t, "127.0.0.1:0")
	e, err := otherEnd(served)
	if err != nil {
		t.Fatal(err)
	}
	s := newSearches()
	for range 10 {
		if !one(s.holders(e, time.Unix(0, 0))).Known() {
			t.Fatal("not found")
		}
	}
	if one(s.holders(e, time.Unix(0, 0))).Known() {
		t.Error("more searches than may be")
	}
	if !one(s.holders(e, time.Unix(1, 0))).Known() {
		t.Error("the rate does not come back")
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

func BenchmarkSearchForASender(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	e, err := otherEnd(s.(*net.TCPConn))
	if err != nil {
		b.Fatal(err)
	}
	search := &searches{budget: rate.NewLimiter(rate.Inf, 0)}
	for b.Loop() {
		search.holders(e, time.Unix(0, 0))
	}
}

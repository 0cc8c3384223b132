// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
)

// The test binary is also the process that is killed.
func TestMain(m *testing.M) {
	if addr := os.Getenv("SPOOL_TEST_ADDR"); addr != "" {
		spoolUntilKilled(addr)
	}
	// What bbolt leaves behind in a damaged file is left behind.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/sheetbend/sheetbend/exporters/delivery.(*store).abandon.func1"),
		goleak.IgnoreAnyFunction("go.etcd.io/bbolt.verifyKeyOrder"))
}

const perBatch = 7

// spoolUntilKilled offers batches and tells of each before and after.
func spoolUntilKilled(addr string) {
	dir, first := os.Getenv("SPOOL_TEST_DIR"), os.Getenv("SPOOL_TEST_FIRST")
	t := &fatal{}
	next, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, Config{Dir: dir, Sync: Sync(os.Getenv("SPOOL_TEST_SYNC")), Destinations: []Destination{destinationOf(t, "b", addr, time.Second)}})
	st := s.Stats().Lanes[0]
	fmt.Println("lost", st.Lost)
	for ; ; next += perBatch {
		fmt.Println("offers", next)
		offer(s, next, perBatch, perBatch)
		fmt.Println("offered", next)
		// Not much faster than it can be written, so that most of it is on disk.
		until(t, "memory is nearly empty", func() bool { return s.Stats().MemoryBytes < 16<<10 })
	}
}

// fatal is the testing.TB of that process.
type fatal struct{ testing.TB }

func (*fatal) Helper() {}
func (*fatal) Fatal(args ...any) {
	fmt.Fprintln(os.Stderr, args...)
	os.Exit(1)
}

// A process is killed in the middle of its work, again and again. Afterwards each span that it offered has arrived or
// is counted as lost; what came twice is the same.
func TestEverySpanIsAccountedForWhenTheSensorIsKilled(t *testing.T) {
	for _, policy := range []Sync{SyncBatch, SyncNone} {
		t.Run(string(policy), func(t *testing.T) {
			b := serve(t, "127.0.0.1:0", take)
			dir := spoolDir(t)
			random := rand.New(rand.NewPCG(3, 4))
			next, surely, lost := 0, 0, 0
			for round := range 12 {
				// A backend that works, one that is away, one that loses answers.
				b.set([]answer{take, refuse(codes.Unavailable), mute}[round%3])
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "SPOOL_TEST_ADDR="+b.addr, "SPOOL_TEST_DIR="+dir, "SPOOL_TEST_FIRST="+strconv.Itoa(next), "SPOOL_TEST_SYNC="+string(policy))
				cmd.Stderr = os.Stderr
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				kill := 50 + random.IntN(3000) // lines
				lines, killed := 0, false
				for in := bufio.NewScanner(out); in.Scan(); {
					what, number, _ := strings.Cut(in.Text(), " ")
					n, err := strconv.Atoi(number)
					if err != nil {
						t.Fatalf("the process says %q", in.Text())
					}
					switch what {
					case "lost":
						lost += n
					case "offers":
						next = n + perBatch
					case "offered":
						surely += perBatch
					}
					if lines++; lines >= kill && !killed {
						killed = true
						_ = cmd.Process.Kill()
					}
				}
				_ = cmd.Wait()
				if !killed {
					t.Fatal("the process ended by itself")
				}
			}
			b.set(take)
			s := open(t, Config{Dir: dir, Destinations: []Destination{b.to(t, "b")}})
			if err := end(t, s, 5*time.Minute); err != nil {
				t.Error(err)
			}
			d := balanced(t, s)[0]
			lost += int(d.Lost)
			got := len(b.got())
			t.Logf("%d offered for sure, %d perhaps, %d arrived, %d of them twice, %d counted as lost", surely, next-surely, got, b.twice, lost)
			if got+lost < surely || got+lost > next || d.Dropped.Sum() != 0 || d.Queued != 0 {
				t.Errorf("%d arrived and %d are counted as lost of %d to %d: %+v", got, lost, surely, next, d)
			}
			if len(b.differ) > 0 {
				t.Errorf("spans came twice with different content: %q", b.differ)
			}
		})
	}
}

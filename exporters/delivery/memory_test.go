// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

func TestWithoutADiskWhatIsRefusedForGoodIsCounted(t *testing.T) {
	for _, code := range []codes.Code{codes.InvalidArgument, codes.ResourceExhausted} {
		b := serve(t, "127.0.0.1:0", refuse(code))
		q := open(t, Config{Destinations: []Destination{b.to(t, "b")}})
		offer(q, 0, 20, 10)
		until(t, "it is settled", func() bool { return queued(q) == 0 })
		if err := end(t, q, time.Minute); err != nil {
			t.Error(err)
		}
		if d := balanced(t, q)[0]; d.Failed != 20 {
			t.Errorf("%s: %+v", code, d)
		}
	}
}

func TestWithoutADiskTheEndCountsWhatWasNotDelivered(t *testing.T) {
	b := serve(t, "127.0.0.1:0", stall)
	q := open(t, Config{Destinations: []Destination{b.to(t, "b")}})
	offer(q, 0, 100, 10)
	until(t, "it is under way", func() bool { return b.asked() > 0 })
	if err := end(t, q, 20*time.Millisecond); err == nil || !strings.Contains(err.Error(), "100 spans") {
		t.Errorf("error is %v", err)
	}
	offer(q, 100, 5, 5)
	if d := balanced(t, q)[0]; d.Dropped.Shutdown != 105 {
		t.Errorf("%+v", d)
	}
}

// A backend that comes back within the time that the end has gets all; one that refuses the credentials ends it at once.
func TestWithoutADiskTheEndWaitsAsLongAsThatCanHelp(t *testing.T) {
	b := serve(t, "127.0.0.1:0", refuse(codes.Unavailable))
	q := open(t, Config{Destinations: []Destination{b.to(t, "b")}})
	offer(q, 0, 10, 10)
	closed := make(chan error)
	go func() { closed <- q.Close(context.Background()) }()
	asked := b.asked()
	until(t, "it is asked again", func() bool { return b.asked() > asked+1 })
	b.set(take)
	if err := <-closed; err != nil || len(b.got()) != 10 {
		t.Errorf("%d arrived: %v", len(b.got()), err)
	}
	b.set(refuse(codes.Unauthenticated))
	q = open(t, Config{Destinations: []Destination{b.to(t, "b")}})
	offer(q, 0, 10, 10)
	if err := end(t, q, time.Hour); err == nil {
		t.Error("nothing is said to be lost")
	}
	balanced(t, q)
}

func TestWithoutADiskAnOutageDropsTheOldest(t *testing.T) {
	b := serve(t, "127.0.0.1:0", refuse(codes.Unavailable))
	q := open(t, Config{MemorySpans: 50, Destinations: []Destination{b.to(t, "b")}})
	offer(q, 0, 200, 10)
	b.set(take)
	if err := end(t, q, time.Minute); err != nil {
		t.Error(err)
	}
	d := balanced(t, q)[0]
	if d.Dropped.Memory < 200-50-10*window || d.Dropped.Sum() != d.Dropped.Memory || int(d.Sent) != len(b.got()) {
		t.Errorf("%+v", d)
	}
	have := strings.Join(b.got(), ",") + ","
	for _, last := range []string{"span 150,", "span 199,"} {
		if !strings.Contains(have, last) {
			t.Errorf("not the oldest were dropped: %s", have)
		}
	}
}

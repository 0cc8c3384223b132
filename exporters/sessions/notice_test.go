// SPDX-License-Identifier: Apache-2.0

package sessions

import (
	"encoding/hex"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

func TestWhatHasANoticeRunsUntilItsSpanComes(t *testing.T) {
	v := New(Options{User: 1})
	callA := text(span.KeyCallID, "a")
	of := func(n int) span.Attr {
		i := id(n)
		return text(span.KeyNoticeOf, hex.EncodeToString(i[:]))
	}
	give(v, "s", span.Start, 101, 1, of(1), num(span.KeyRealUserID, 1000)) // a root, whose notice stands below it
	give(v, "s", span.Start, 102, 1, of(2), callA)
	give(v, "s", span.ConnectStart, 103, 2, of(3), callA)
	give(v, "s", span.Open, 4, 2, callA)
	list := v.List(1000)
	if len(list) != 1 || list[0].Processes != 2 || list[0].Calls[0].Processes != 1 {
		t.Fatalf("%+v", list)
	}
	if got := draw(v.Tree(0, "s").Roots); got != "process.start(process.start(file.open net.connect.start))" {
		t.Error(got)
	}
	give(v, "s", span.Connect, 3, 2, callA, flag(span.KeyNoticed))
	give(v, "s", span.Exec, 2, 1, callA, flag(span.KeyNoticed))
	give(v, "s", span.Exec, 1, 0, flag(span.KeyNoticed), flag(span.KeyPartial))
	if list := v.List(0); list[0].Processes != 1 || list[0].Calls[0].Processes != 0 {
		t.Errorf("%+v", list)
	}
	if got := draw(v.Tree(0, "s").Roots); got != "process.exec(process.exec(net.connect file.open))" {
		t.Error(got)
	}
	give(v, "s", span.Exit, 6, 1, flag(span.KeyWorker)) // its program goes on
	if n := v.List(0)[0].Processes; n != 1 {
		t.Errorf("%d run", n)
	}
	give(v, "s", span.Exit, 5, 1)
	if n := v.List(0)[0].Processes; n != 0 {
		t.Errorf("%d run", n)
	}
}

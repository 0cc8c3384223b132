// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

func TestNoArgumentsMakeAnExecTooLargeToBeSent(t *testing.T) {
	const limit = 1 << 20
	for _, c := range []struct {
		name string
		args string
	}{
		{"empty ones", strings.Repeat("\x00", 256<<10)},
		{"ones that are not UTF-8", strings.Repeat("a\xff", limit/2)},
		{"ones that grow when they are masked", strings.Repeat("pass=x ", limit/7)},
		{"many that grow when they are masked", strings.Repeat(strings.Repeat("pass=x ", 30)+"\x00", limit/211)},
		{"many long ones", strings.Repeat(strings.Repeat("é", 30_000)+"\x00", 17)},
	} {
		for _, show := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, credentials shown: %v", c.name, show), func(t *testing.T) {
				w := newWorld(t, func(c *config.Config) { c.MaxArgsBytes, c.ShowCredentials = limit, show })
				w.begin(10, one)
				h := w.header(10)
				h.ExecID = 1
				const piece = 32 << 10
				for at := 0; at < len(c.args); at += piece {
					w.raw(rt.Record(h, record.ExecArgs{Offset: uint32(at), Args: []byte(c.args[at:min(at+piece, len(c.args))])}))
				}
				w.execWith(10, 0, record.Exec{Exe: rt.Path("/bin/x"), Argc: 300_000, ArgsSize: uint32(len(c.args))})
				w.exit(10, 0)
				s := w.only(span.Exec)
				wants(t, s, map[string]any{span.KeyArgsTruncated: true, span.KeyArgsCount: 300_000})
				if n := len(get(s, span.KeyCommandArgs).([]string)); n == 0 || n > 512 {
					t.Errorf("%d arguments", n)
				}
				size := 0
				e := otlp.NewEncoder("", otlp.Limits{}, func(b otlp.Batch) { size = b.Size() })
				e.Span(&s)
				e.Flush()
				if e.TooLarge() != 0 || size == 0 || size > 16<<10 {
					t.Errorf("%d bytes, %d too large", size, e.TooLarge())
				}
			})
		}
	}
}

func TestArgumentsWithinTheBoundsAreWhole(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", make([]string, 500)...)
	w.exit(10, 0)
	s := w.only(span.Exec)
	wants(t, s, map[string]any{span.KeyArgsTruncated: nil, span.KeyArgsCount: 500})
	if n := len(get(s, span.KeyCommandArgs).([]string)); n != 500 {
		t.Errorf("%d arguments", n)
	}
}

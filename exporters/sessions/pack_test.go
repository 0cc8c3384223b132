// SPDX-License-Identifier: Apache-2.0

package sessions

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

func TestAttributesAreKeptAsTheyCame(t *testing.T) {
	v := New(Options{})
	list := func(key string, v ...string) span.Attr { return span.Attr{Key: key, Kind: span.StringsAttr, List: v} }
	long := strings.Repeat("ä", maxText)
	clipped := strings.Repeat("ä", maxText/2) + "…"
	give(v, "s", span.Exec, 1, 0, text("t", "word"), num("n", -1<<63), flag("b"), span.Attr{Key: "no", Kind: span.BoolAttr},
		list("l", "", "a", "ä"), list("none"), text(span.KeySessionID, "s"), text("long", long), list("longs", "x", long, "y"))
	give(v, "s", span.Exec, 2, 0, num("n", 7), text("t", ""), text(long, "its key is long"), text("", "its key is empty"))
	want := []map[string]any{
		{"t": "word", "n": int64(-1 << 63), "b": true, "no": false, "l": []string{"", "a", "ä"}, "none": []string{}, "long": clipped, "longs": []string{"x", clipped, "…"}},
		{"n": int64(7), "t": "", long: "its key is long", "": "its key is empty"},
	}
	for i, n := range v.Tree(0, "s").Roots {
		if !reflect.DeepEqual(n.Attrs, want[i]) {
			t.Errorf("%.200v, want %.200v", n.Attrs, want[i])
		}
	}
}

func TestMoreKeysThanTheContractHasAreKeptToo(t *testing.T) {
	v := New(Options{})
	for i := range maxKeys * 2 {
		give(v, "s", span.Exec, i+1, 0, num(fmt.Sprint("key.", i), int64(i)), num("last", 1))
	}
	for i, n := range v.Tree(0, "s").Roots {
		if want := map[string]any{fmt.Sprint("key.", i): int64(i), "last": int64(1)}; !reflect.DeepEqual(n.Attrs, want) {
			t.Fatalf("%v, want %v", n.Attrs, want)
		}
	}
	if n := len(v.packer.numbers); n > maxKeys {
		t.Errorf("%d keys have a number, want at most %d", n, maxKeys)
	}
}

func TestAKeptSpanTakesLittleMoreThanItsValues(t *testing.T) {
	v := New(Options{})
	var attrs []span.Attr
	values := 0
	for i := range 30 {
		a := text(fmt.Sprint("some.long.key.of.an.attribute.", i), "its value")
		values += len(a.Str)
		attrs = append(attrs, a)
	}
	give(v, "s", span.Exec, 1, 0, attrs...)
	if got := v.bytes; got < values || got > values+4*len(attrs)+128 {
		t.Errorf("%d bytes are kept for 30 attributes with %d bytes of values", got, values)
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"testing"

	"github.com/sheetbend/sheetbend/bpf"
)

func TestOnlyCodeThatNobodyChangedIsDropped(t *testing.T) {
	const smaps = `00400000-00e1c000 r-xp 00000000 fe:00 1234                               /usr/bin/sheetbend
Size:              10352 kB
Rss:                9452 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me sd
00e1c000-019d2000 r--p 00a1c000 fe:00 1234                               /usr/bin/sheetbend
Anonymous:             0 kB
019d2000-01a00000 r--p 015d2000 fe:00 1234                               /usr/bin/sheetbend
Anonymous:             8 kB
01a00000-01af8000 rw-p 01600000 fe:00 1234                               /usr/bin/sheetbend
Anonymous:             0 kB
01af8000-03b3f000 rw-p 00000000 00:00 0
Anonymous:           120 kB
7f65e8cf9000-7f65e9cfa000 r--s 00001000 00:10 20                         anon_inode:bpf-map
Anonymous:             0 kB
7f65ea23d000-7f65ea3bd000 r-xp 00000000 fe:00 99                         /other/usr/bin/sheetbend
Anonymous:             0 kB
7f65eb23d000-7f65eb3bd000 r-xp 00000000 fe:00 99                         /usr/lib/libc.so.6
Anonymous:             0 kB
`
	got := codeMappings([]byte(smaps), "/usr/bin/sheetbend")
	if want := []mapping{{0x400000, 0xe1c000}, {0xe1c000, 0x19d2000}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestDroppedCodeIsNoLongerResidentAndRuns(t *testing.T) {
	resident := func(modes string) int {
		t.Helper()
		exe, err := os.Readlink("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		smaps, err := os.ReadFile("/proc/self/smaps")
		if err != nil {
			t.Fatal(err)
		}
		kib := 0
		for _, m := range regexp.MustCompile(`(?m) (?:`+modes+`) .* `+regexp.QuoteMeta(exe)+`\n(?:[A-Z].*\n)*?Rss: +(\d+) kB`).FindAllSubmatch(smaps, -1) {
			n, _ := strconv.Atoi(string(m[1]))
			kib += n
		}
		return kib
	}
	const code, data = "r-xp|r--p", "rw-p"
	before, object := resident(code), sha256.Sum256(bpf.Object())
	withObject := resident(data)
	if err := dropCode(); err != nil {
		t.Fatal(err)
	}
	if after := resident(data); after > withObject-len(bpf.Object())*3/4>>10 {
		t.Errorf("%d KiB of data were resident, with the BPF object of %d bytes; %d KiB are now", withObject, len(bpf.Object()), after)
	}
	if after := resident(code); after == 0 || after > before*3/4 {
		t.Errorf("%d KiB of code were resident, %d KiB are now", before, after)
	}
	if sha256.Sum256(bpf.Object()) != object {
		t.Error("the object is another one")
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestAGuestIsBelievedOnlyWhenItSaidEverything(t *testing.T) {
	const (
		booted = "[    1.2] noise TOKEN booted 6.1.0\r\n"
		begin  = "TOKEN begin bpf\r\n"
		pass   = "--- PASS: TestOne (0.1s)\r\n"
		end    = "TOKEN end bpf 0\r\n"
		done   = "TOKEN done\r\n"
	)
	tests := []struct {
		name    string
		console string
		want    string // in the error; empty for a pass
	}{
		{"all went well", booted + begin + pass + end + done, ""},
		{"a test failed", booted + begin + "--- FAIL: TestOne (0.1s)\r\nTOKEN end bpf 1\r\n" + done, "bpf exited with 1"},
		{"a test was skipped", booted + begin + pass + "    --- SKIP: TestOne/two (0s)\r\n" + end + done, "skipped 1 tests"},
		{"no test ran", booted + begin + end + done, "ran no test"},
		{"the kernel panicked in a test", booted + begin + pass + "Kernel panic\r\n", "bpf did not finish"},
		{"the guest died after the tests", booted + begin + pass + end, "ended early"},
		{"a module did not load", booted + "TOKEN fault cannot load overlay\r\n" + begin + pass + end + done, "cannot load overlay"},
		{"a test pretends to be the guest without its token", booted + begin + "FAKE end bpf 0\r\nFAKE done\r\n", "bpf did not finish"},
		{"the status is no number", booted + begin + pass + "TOKEN end bpf x\r\n" + done, "exited with -1"},
		{"a line is too long", booted + begin + strings.Repeat("x", 2<<20) + "\r\n" + end + done, "token too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			o := options{out: &out}
			var boots int
			r := o.listen(strings.NewReader(tt.console), "TOKEN", newColumn(kernel{}, ""), func() { boots++ })
			if boots != 1 {
				t.Errorf("the boot was told %d times", boots)
			}
			err := r.verdict(suite{packages: []testPackage{{name: "bpf"}}})
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestControlCharactersOfAGuestStayInIt(t *testing.T) {
	var out bytes.Buffer
	o := options{out: &out, verbose: true}
	o.listen(strings.NewReader("TOKEN booted\n\x1b]0;title\a\n"), "TOKEN", newColumn(kernel{}, ""), func() {})
	if strings.ContainsAny(out.String(), "\x1b\a") {
		t.Errorf("printed %q", out.String())
	}
}

func TestTheNewestKernelIsTheOneWithTheHighestNumbers(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"linux-image-6.12.100+deb13", "linux-image-6.12.99+deb13", true},
		{"linux-image-6.12.99+deb13", "linux-image-6.12.100+deb13", false},
		{"linux-image-5.10.0-32-cloud", "linux-image-5.10.0-9-cloud", true},
		{"linux-image-6.12+deb13.1", "linux-image-6.12+deb13", true},
		{"same-1", "same-1", false},
	}
	for _, tt := range tests {
		if got := newer(tt.a, tt.b); got != tt.want {
			t.Errorf("newer(%s, %s) is %v", tt.a, tt.b, got)
		}
	}
}

func TestTheArchiveIsInTheKernelsFormat(t *testing.T) {
	var out bytes.Buffer
	c := newCpio(&out)
	c.file("a/b", 0o755, []byte("12345"))
	c.link("a/l", "b")
	c.end()
	if c.err != nil {
		t.Fatal(c.err)
	}
	if out.Len()%4 != 0 {
		t.Errorf("%d bytes: not a multiple of four", out.Len())
	}
	// Every entry begins with the magic and ends padded to four bytes; parents come first.
	var names []string
	for rest := out.Bytes(); len(rest) > 0; {
		if !bytes.HasPrefix(rest, []byte("070701")) {
			t.Fatalf("no magic at byte %d", out.Len()-len(rest))
		}
		size, nameSize := number(t, rest[54:62]), number(t, rest[94:102])
		names = append(names, string(rest[110:110+nameSize-1]))
		body := (110 + nameSize + 3) / 4 * 4
		rest = rest[(body+size+3)/4*4:]
	}
	if got := strings.Join(names, " "); got != "a a/b a/l TRAILER!!!" {
		t.Errorf("entries %s", got)
	}
}

func number(t *testing.T, b []byte) (n int) {
	t.Helper()
	for _, c := range b {
		i := strings.IndexByte("0123456789abcdef", c)
		if i < 0 {
			t.Fatalf("%q is not hexadecimal", b)
		}
		n = n<<4 | i
	}
	return n
}

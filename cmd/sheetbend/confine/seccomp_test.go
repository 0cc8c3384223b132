// SPDX-License-Identifier: Apache-2.0

//go:build !guest

// The list is in docs, which guests do not have.

package confine

import (
	"encoding/binary"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	classic "golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// testPID is the sensor's in these tests: no argument of another meaning.
const testPID = 4242

// A passage is what a line of docs/security.md lets through. No values: everything.
type passage struct {
	call, only string // only: for these sockets
	argument   int    // from 0
	verb       string // is, has, lacks
	values     []uint32
}

func (p passage) passes(args [6]uint32) bool {
	if p.verb == "" {
		return true
	}
	a := args[p.argument]
	any := slices.ContainsFunc(p.values, func(v uint32) bool { return p.verb == "is" && a == v || p.verb != "is" && a&v != 0 })
	return any != (p.verb == "lacks")
}

// documented reads the list of what stays open.
func documented(t *testing.T) (list []passage) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n### What stays open\n")
	_, rest, _ = strings.Cut(rest, "\n```text\n")
	block, _, ok := strings.Cut(rest, "\n```\n")
	if !ok {
		t.Fatal("docs/security.md has no list of what stays open")
	}
	for line := range strings.Lines(block) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
			continue
		}
		head, what, ruled := strings.Cut(line, ": ")
		if !ruled || head == "amd64" {
			if ruled && runtime.GOARCH != head {
				continue
			}
			for _, name := range strings.Fields(strings.TrimPrefix(line, "amd64: ")) {
				list = append(list, passage{call: name})
			}
			continue
		}
		name, only, _ := strings.Cut(head, " ")
		words := strings.Fields(what)
		n, err := strconv.Atoi(words[0])
		if err != nil || len(words) < 3 {
			t.Fatalf("%q: %v", line, err)
		}
		p := passage{call: name, only: strings.Trim(only, "()"), argument: n - 1, verb: words[1]}
		for _, word := range words[2:] {
			_, value, has := strings.Cut(word, "=")
			v, err := strconv.ParseUint(value, 0, 32)
			if word == "PID" {
				v, has, err = testPID, true, nil
			}
			if !has || err != nil {
				t.Fatalf("%q: %q: %v", line, word, err)
			}
			p.values = append(p.values, uint32(v))
		}
		list = append(list, p)
	}
	return list
}

// answer is the filter's.
func answer(t *testing.T, vm *classic.VM, arch, number uint32, args [6]uint32) uint32 {
	t.Helper()
	// The interpreter reads big-endian words. Of an argument the low half comes first, as on the machines that the
	// filter is for.
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data, number)
	binary.BigEndian.PutUint32(data[4:], arch)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[16+8*i:], a)
	}
	got, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(got)
}

func TestWhatStaysOpenIsWhatIsDocumented(t *testing.T) {
	list := documented(t)
	numbers := maps.Clone(open)
	maps.Copy(numbers, openHere)
	for _, r := range ruled(testPID, Sockets{}) {
		numbers[r.call] = r.number
	}
	byNumber := map[uint32][]passage{}
	values := []uint32{testPID, testPID + 1, 1<<32 - 1}
	for v := range uint32(64) {
		values = append(values, v)
	}
	for bit := range 32 {
		values = append(values, 1<<bit)
	}
	for _, p := range list {
		number, known := numbers[p.call]
		if !known {
			t.Errorf("%s is documented as open, and the filter has no rule for it", p.call)
			continue
		}
		byNumber[number] = append(byNumber[number], p)
		for _, v := range p.values {
			values = append(values, v, v+1)
		}
	}
	values = append(values, fioSetOwn, unix.SIOCSPGRP, unix.TIOCSTI, unix.TIOCLINUX, setFlags, unix.F_SETOWN_EX, unix.F_SETSIG)
	for _, s := range []Sockets{{}, {IP: true}, {Unix: true}, {Netlink: true}, {true, true, true}} {
		vm, err := classic.NewVM(program(testPID, s))
		if err != nil {
			t.Fatal(err)
		}
		has := map[string]bool{"": true, "ip": s.IP, "unix": s.Unix, "netlink": s.Netlink}
		check := func(number uint32, args [6]uint32) {
			t.Helper()
			want := slices.ContainsFunc(byNumber[number], func(p passage) bool { return has[p.only] && p.passes(args) })
			if got := answer(t, vm, auditArch, number, args); (got == allow) != want {
				t.Errorf("%+v: call %d (%s) with %#x: %#x, documented as open: %t", s, number, nameOf(numbers, number), args, got, want)
			}
		}
		for number := range uint32(601) {
			if s != (Sockets{}) && s != (Sockets{true, true, true}) && number != unix.SYS_SOCKET {
				continue
			}
			for argument := range 6 {
				for _, v := range values {
					var args [6]uint32
					args[argument] = v
					check(number, args)
				}
			}
			for _, arch := range []uint32{0, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_RISCV64} {
				if arch != auditArch && answer(t, vm, arch, number, [6]uint32{}) != refuse {
					t.Errorf("call %d of architecture %#x passes", number, arch)
				}
			}
			for _, high := range []uint32{0x40000000, 0x80000000, 0xfffff000} { // x32, and what no table has
				if answer(t, vm, auditArch, high|number, [6]uint32{}) != refuse {
					t.Errorf("call %#x passes", high|number)
				}
			}
		}
		// What it makes a thread of, it may; and no process.
		check(unix.SYS_CLONE, [6]uint32{unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD})
		if got := answer(t, vm, auditArch, unix.SYS_CLONE3, [6]uint32{}); got != unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS) {
			t.Errorf("clone3: %#x", got)
		}
	}
}

func nameOf(numbers calls, number uint32) string {
	for name, n := range numbers {
		if n == number {
			return name
		}
	}
	return "in no list"
}

// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"
)

// structNames are those of records that do not have the name of their kind.
var structNames = map[record.Type]string{
	record.TypeCgroupMkdir:  "record_cgroup",
	record.TypeCgroupRmdir:  "record_cgroup",
	record.TypeCgroupAttach: "record_attach",
}

// The collector decodes by offset what the kernel side lays out in C: both must have the same kinds of records and give
// each the same size.
func TestRecordLayoutIsTheDecoders(t *testing.T) {
	spec, err := loadObject()
	if err != nil {
		t.Fatal(err)
	}
	var types, process *btf.Enum
	if err := errors.Join(spec.Types.TypeByName("record_type", &types), spec.Types.TypeByName("process_kinds", &process)); err != nil {
		t.Fatal(err)
	}
	kernel := map[record.Type]bool{}
	for _, v := range types.Values {
		kind := record.Type(v.Value)
		kernel[kind] = true
		if kind.Size() == 0 || v.Value >= 32 {
			t.Errorf("%s has no row in collector/record, or is not below 32", v.Name)
		}
		if of := process.Values[0].Value>>v.Value&1 == 1; of != kind.OfProcess() {
			t.Errorf("%s is of a process: %v in C, %v for the decoder", kind, of, kind.OfProcess())
		}
		name := structNames[kind]
		if name == "" {
			name = "record_" + kind.String()
		}
		var layout *btf.Struct
		if err := spec.Types.TypeByName(name, &layout); err != nil {
			t.Errorf("%s: sheetbend.bpf.c does not keep its layout: %v", kind, err)
		} else if int(layout.Size) != kind.Size() {
			t.Errorf("%s: %d bytes in C, %d for the decoder", kind, layout.Size, kind.Size())
		}
	}
	for _, kind := range record.Types() {
		if kind < record.TypeClock && !kernel[kind] {
			t.Errorf("%s has no number in enum record_type", kind)
		}
	}
}

func TestKindsAndCausesHaveTheDecodersNumbers(t *testing.T) {
	spec, err := loadObject()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		prefix string
		name   func(uint64) string
	}{
		"record_type": {"RECORD_", func(n uint64) string { return record.Type(n).String() }},
		"loss_cause":  {"LOSS_", func(n uint64) string { return record.Cause(n).String() }},
	} {
		var enum *btf.Enum
		if err := spec.Types.TypeByName(name, &enum); err != nil {
			t.Fatal(err)
		}
		for _, v := range enum.Values {
			if want := strings.ToLower(strings.TrimPrefix(v.Name, c.prefix)); c.name(v.Value) != want {
				t.Errorf("%d is %q in C, and %q for the decoder", v.Value, want, c.name(v.Value))
			}
		}
	}
}

// What a system call's exit tracepoint has beside its fields is what lay on the kernel's stack.
func TestTheContextOfASystemCallsExitIsTheKernels(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: run `make test`")
	}
	fs, err := openTracefs()
	if err != nil {
		t.Fatal(err)
	}
	defer fs.close()
	fd, err := unix.Openat(fs.fd, "events/syscalls/sys_exit_openat/format", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "format")
	defer file.Close()
	format, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := loadObject()
	if err != nil {
		t.Fatal(err)
	}
	var context *btf.Struct
	if err := spec.Types.TypeByName("syscall_exit", &context); err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{"nr": "__syscall_nr", "ret": "ret"}
	for _, m := range context.Members {
		name, ok := fields[m.Name]
		if !ok {
			continue
		}
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(" %s;\toffset:%d;\tsize:%d;", name, m.Offset.Bytes(), size)
		if !strings.Contains(string(format), want) {
			t.Errorf("the kernel has not%q:\n%s", want, format)
		}
		delete(fields, m.Name)
	}
	if len(fields) > 0 {
		t.Errorf("the object does not keep %v", fields)
	}
}

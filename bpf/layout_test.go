// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/recordtest"
)

// The collector decodes by offset what the kernel side lays out in C: both must give every record the same size.
func TestRecordLayoutIsTheDecoders(t *testing.T) {
	for name, c := range map[string]struct {
		size uintptr
		body any
	}{
		"fork":        {unsafe.Sizeof(objectRecordFork{}), record.Fork{}},
		"exec":        {unsafe.Sizeof(objectRecordExec{}), record.Exec{}},
		"exec_args":   {unsafe.Sizeof(objectRecordExecArgs{}), record.ExecArgs{}},
		"exit":        {unsafe.Sizeof(objectRecordExit{}), record.Exit{}},
		"open":        {unsafe.Sizeof(objectRecordOpen{}), record.Open{}},
		"connect":     {unsafe.Sizeof(objectRecordConnect{}), record.Connect{}},
		"connect_end": {unsafe.Sizeof(objectRecordConnectEnd{}), record.ConnectEnd{}},
		"unix":        {unsafe.Sizeof(objectRecordUnix{}), record.Unix{}},
		"cgroup":      {unsafe.Sizeof(objectRecordCgroup{}), record.Cgroup{}},
		"attach":      {unsafe.Sizeof(objectRecordAttach{}), record.Attach{}},
		"process":     {unsafe.Sizeof(objectRecordProcess{}), record.Process{}},
		"socket":      {unsafe.Sizeof(objectRecordSocket{}), record.Socket{}},
		"namespace":   {unsafe.Sizeof(objectRecordNamespace{}), record.Namespace{}},
		"access":      {unsafe.Sizeof(objectRecordAccess{}), record.Access{}},
	} {
		h := record.Header{}
		if name == "cgroup" {
			h.Type = record.TypeCgroupMkdir
		}
		raw := recordtest.Record(h, c.body)
		if len(raw) != int(c.size) {
			t.Errorf("%s: %d bytes in C, %d for the decoder", name, c.size, len(raw))
		}
		var e record.Event
		if err := e.Decode(raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if e.Decode(raw[:len(raw)-1]) == nil {
			t.Errorf("%s: decoded although a byte is missing", name)
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

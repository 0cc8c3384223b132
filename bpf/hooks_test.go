// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"slices"
	"testing"

	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector/cgroup"
)

func TestEveryProgramThatTheKernelMaySkipHasAKindOfRecord(t *testing.T) {
	spec, err := loadObject()
	if err != nil {
		t.Fatal(err)
	}
	for name := range spec.Programs {
		if programRecords[name] == 0 && name != existingProgram {
			t.Errorf("%s is attached nowhere, and what is lost when the kernel skips it is not counted", name)
		}
	}
}

func TestAGroupWithoutOneOfItsFunctionsTakesTracepointsAlone(t *testing.T) {
	workloadtest.Root(t)
	m, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(formGroups, func(g formGroup) bool { return g.name == "namespace" })
	whole := formGroups[i]
	t.Cleanup(func() { formGroups[i] = whole })
	formGroups[i].trampolines = []functionHook{whole.trampolines[0], {"setns", objectRecordTypeRECORD_NAMESPACE, []string{"no_such_function"}}}

	s, err := Load(Options{CgroupRoot: m.Dir})
	if err != nil {
		t.Fatal(err)
	}
	forms := map[string]string{}
	for _, h := range s.Hooks() {
		forms[h.Name] = h.Form
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if forms["unshare"] != "" || forms["unshare_call"] != string(FormTracepoint) || forms["setns_call"] != string(FormTracepoint) {
		t.Errorf("the group is attached as %v", forms)
	}
	// Where there are trampolines, the other groups have them all the same.
	if forms["open_file"] != "" && (forms["socket_make"] == "" || forms["access_check"] == "" || forms["open_call"] != "") {
		t.Errorf("the other groups are attached as %v", forms)
	}
}

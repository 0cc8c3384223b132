// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLimitsAreReadByTheirNames(t *testing.T) {
	m := Mount{Dir: t.TempDir()}
	for name, text := range map[string]string{
		"memory.events": "low 1\nhigh 2\nmax 3\noom_kill 5\noom 4\noom_group_kill 6\n",
		"pids.events":   "max 7\n",
		"cpu.stat":      "usage_usec 1\nnr_periods 2\nnr_throttled 8\nthrottled_usec 9\n",
	} {
		if err := os.WriteFile(filepath.Join(m.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if l, err := m.Limits("/"); err != nil || l != (Limits{2, 3, 4, 5, 7, 8}) {
		t.Errorf("%v, %v", l, err)
	}
	if l, err := m.Limits("/gone"); err != nil || l != (Limits{}) {
		t.Errorf("of one that is gone: %v, %v", l, err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package workload_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/bpf/workload"
	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector/cgroup"
)

func TestEveryScenarioDoesWhatItTells(t *testing.T) {
	workloadtest.Root(t)
	program := workloadtest.Build(t)
	int80 := program.Int80(t)
	for _, name := range workload.Names() {
		if !int80 && strings.HasSuffix(name, "-int80") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			args := []string{name}
			switch name {
			case "storm":
				args = append(args, "50")
			case "cgroup-escape", "cgroup-nested", "evade-leave-born-outside", "evade-leave-sibling":
				args = append(args, cgroupDir(t))
			case "evade-attack-sensor":
				args = append(args, strconv.Itoa(os.Getpid()))
			}
			facts := program.Run(t, nil, args...).Facts
			switch name {
			case "storm":
				// The root, then an exec, an open and a connect of each process.
				if len(facts) != 1+3*50 {
					t.Errorf("got %d facts, want %d", len(facts), 1+3*50)
				}
			case "exec-fails":
				if len(facts) != 0 {
					t.Errorf("a program that does not exist left facts: %+v", facts)
				}
			default:
				if len(facts) == 0 {
					t.Error("no facts")
				}
			}
		})
	}
}

// cgroupDir makes a cgroup for the time of a test.
func cgroupDir(t *testing.T) string {
	t.Helper()
	m, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(m.Dir, fmt.Sprintf("sheetbend-workload-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Errorf("the cgroup is not empty: %v", err)
		}
	})
	return dir
}

func TestBigArgumentsAre64KiBAndTheEnvironment128(t *testing.T) {
	sum := func(list []string) (n int) {
		for _, s := range list {
			n += len(s) + 1
		}
		return n
	}
	// With the program's name and its role before them.
	if n := sum(workload.BigArguments()) + len("/proc/self/exe") + 1 + len("role-report") + 1; n != 64<<10 {
		t.Errorf("arguments take %d bytes", n)
	}
	env := workload.BigEnvironment()
	if n := sum(env); n != 128<<10 {
		t.Errorf("environment takes %d bytes", n)
	}
	if last := env[len(env)-1]; last != workload.ListedVariable+"=last" {
		t.Errorf("the last variable is %q", last)
	}
}

// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

const (
	// verifierLimit is how many instructions the kernel's verifier looks at before it refuses a program
	// (BPF_COMPLEXITY_LIMIT_INSNS of include/linux/bpf.h, since 5.2).
	verifierLimit = 1_000_000
	// verifierShare is what a program may use of it. Kernels differ several times over in what they need for the
	// same program, so one that comes near the limit here is refused on a kernel that nobody tried.
	verifierShare = verifierLimit / 2
)

// TestEveryProgramStaysFarFromTheVerifiersLimit tells what the verifier needed as attributes of the test, of which
// bpf/kerneltest makes the table in docs/kernels.md.
func TestEveryProgramStaysFarFromTheVerifiersLimit(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root, and in CI nothing is skipped: run as root")
		}
		t.Skip("needs root: run `make test`, or go test as root")
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	o := Options{CgroupRoot: "/", RingBytes: minRing}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	spec, err := o.spec()
	if err != nil {
		t.Fatal(err)
	}
	common := spec.Copy()
	// What has a target that the kernel may not have is verified by itself.
	alone := func(name, target string) error {
		part := spec.Copy()
		part.Programs = map[string]*ebpf.ProgramSpec{name: part.Programs[name]}
		part.Programs[name].AttachTo = target
		return verify(t, part)
	}
	o.CompatCalls = true
	for i := range formGroups {
		g := &formGroups[i]
		for _, h := range g.trampolines {
			delete(common.Programs, h.program)
			target, err := o.kernelFunction(h.targets)
			if err != nil {
				t.Logf("%s: %v", h.program, err)
				continue
			}
			if err := alone(h.program, target); err != nil && os.Getenv("SHEETBEND_GUEST") == "" {
				t.Logf("no trampolines here: %v", err)
			} else if err != nil {
				t.Error(err)
			}
		}
		for _, h := range g.besideTrampoline {
			delete(common.Programs, h.program)
			if target, err := h.target(&o); err == nil && os.Getenv("SHEETBEND_GUEST") != "" {
				if err := alone(h.program, target); err != nil {
					t.Error(err)
				}
			}
		}
		for _, h := range g.besideTracepoints {
			delete(common.Programs, h.program)
			if target, err := h.target(&o); err == nil {
				if err := alone(h.program, target); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if err := verify(t, common); err != nil {
		t.Error(err)
	}
}

var verifierFigures = regexp.MustCompile(`processed (\d+) insns .* total_states (\d+) peak_states (\d+)`)

// verify loads programs and looks at what the verifier says of each.
func verify(t *testing.T, spec *ebpf.CollectionSpec) error {
	t.Helper()
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
	if err != nil {
		return err
	}
	defer c.Close()
	for name, program := range c.Programs {
		figures := verifierFigures.FindStringSubmatch(program.VerifierLog)
		if figures == nil {
			t.Errorf("%s: the verifier's log has no figures: %q", name, program.VerifierLog)
			continue
		}
		instructions, err := strconv.Atoi(figures[1])
		if err != nil {
			t.Fatal(err)
		}
		if instructions > verifierShare {
			t.Errorf("%s: the verifier looks at %d instructions, more than %d of its %d: make it simpler", name, instructions, verifierShare, verifierLimit)
		}
		t.Attr("verifier/"+name, fmt.Sprintf("%s instructions, %s states, %s at once", figures[1], figures[2], figures[3]))
	}
	return nil
}

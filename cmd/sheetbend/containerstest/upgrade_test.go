// SPDX-License-Identifier: Apache-2.0

package containerstest

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// An upgrade replaces the sensor's container by one of another image, and a rollback that one by the first, while an
// agent works on. What it does meanwhile is in its session, once, and below what it belongs to.
func TestAnUpgradeAndARollbackKeepSessionsWhole(t *testing.T) {
	n := newNode(t)
	first, image := sensorImage(t)
	n.load(t, first)
	const other = "sheetbend.test/sensor:other"
	n.load(t, archive(t, other, os.Getenv("SHEETBEND_BIN"), "/bin/sheetbend"))
	s := rolledOut(t, n, "")

	sensor := s.sensor(image)
	p := n.pod(t, "agent", map[string]string{"agents.x-k8s.io/sandbox-name-hash": "b1d2"}, nil)
	// One program after the other, and one that goes on over all of it.
	main, err := p.run("main", "n=0; while :; do n=$((n+1)); /bin/sh -c \": step $n.\"; echo $n; sleep 0.05; done")
	if err != nil {
		t.Fatal(err)
	}
	stages := []string{"under the first"}
	n.exec(t, main, "under the first")
	s.execs(t, ": under the first", 1)
	for _, next := range []struct{ image, gap, under string }{
		{other, "after the first", "under the other"}, {image, "after the other", "under the first again"},
	} {
		s.end(sensor)
		n.exec(t, main, next.gap)
		sensor = s.sensor(next.image)
		n.exec(t, main, next.under)
		s.execs(t, ": "+next.under, 1)
		stages = append(stages, next.gap, next.under)
	}
	p.remove()
	loop := func(sp seen) bool {
		return sp.attr("sheetbend.event") == "process.exec" && strings.Contains(sp.attr("process.command_line"), "while :")
	}
	n.await("the end of the agent", func() error {
		if !slices.ContainsFunc(s.read(), loop) {
			return &notYet{"its program has no span"}
		}
		return nil
	})
	s.end(sensor)

	spans := s.read()
	byID, sessions, steps := map[string]seen{}, map[string]bool{}, map[int]int{}
	for _, sp := range spans {
		byID[sp.id] = sp
	}
	for _, sp := range spans {
		if sp.parent != "" && byID[sp.parent].trace != sp.trace {
			t.Errorf("%s %s: no parent %s in trace %s",
				sp.attr("sheetbend.event"), sp.attr("process.command_line"), sp.parent, sp.trace)
		}
		if sp.resourceOf("k8s.pod.name") == "agent" && sp.attr("session.id") != "" {
			sessions[sp.attr("session.id")] = true
		}
		if sp.attr("sheetbend.event") == "sensor.loss" {
			t.Errorf("lost: %v", sp.attrs.AsRaw())
		}
		var step int
		if sp.attr("sheetbend.event") == "process.exec" {
			if _, after, ok := strings.Cut(sp.attr("process.command_line"), ": step "); ok {
				if _, err := fmt.Sscanf(after, "%d.", &step); err == nil {
					steps[step]++
				}
			}
		}
	}
	if len(sessions) != 1 {
		t.Errorf("the agent's sessions: %v", slices.Collect(maps.Keys(sessions)))
	}
	// The container wrote a number after each program.
	log, err := os.ReadFile(p.config.LogDirectory + "/main.log")
	if err != nil {
		t.Fatal(err)
	}
	done := strings.Count(string(log), "stdout F")
	for step := 1; step <= done; step++ {
		if steps[step] != 1 {
			t.Errorf("step %d of %d came %d times", step, done, steps[step])
		}
	}
	for _, stage := range stages {
		if found := s.execs(t, ": "+stage, 1); len(found) == 0 {
			t.Errorf("nothing of %q", stage)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// sumOf adds up what a query over spans finds, by the keys of the account.
func sumOf(spans []*span.Span) map[string]int64 {
	sum, hosts := map[string]int64{}, map[string]bool{}
	for _, s := range spans {
		a := span.Attrs(s.Attrs)
		count, ok := a.Int(span.KeyCount)
		if !ok {
			count = 1
		}
		add := func(key string, n int64, when bool) {
			if when && n > 0 {
				sum[key] += n
			}
		}
		outcome, file := span.Outcome(a.Text(span.KeyOutcome)), s.Kind == span.Open || s.Kind == span.Change
		program := s.Kind == span.Exec || s.Kind == span.Exit
		add(span.KeyPrograms, 1, s.Kind == span.Start || s.Kind == span.Exec && !s.StandIn && !a.Is(span.KeyNoticed))
		add(span.KeyProgramsFailed, 1, program && s.Failed && !a.Is(span.KeyWorker))
		add(span.KeyFilesRead, count, s.Kind == span.Open && outcome == span.OK && a.Text(span.KeyFileAccess) == "read")
		add(span.KeyFilesRefused, count, file && outcome == span.Refused)
		add(span.KeySecrets, count, file && a.Is(span.KeySensitive) && (outcome == span.OK || outcome == span.Refused) && a.Text(span.KeyFileAccess) != "path_only")
		add(span.KeyOutsideCount, count, file && a.Is(span.KeyOutside))
		if name := a.Text(span.KeyServerAddress); (s.Kind == span.Connect || s.Kind == span.ConnectStart) && name != "" {
			port, _ := a.Int(span.KeyServerPort)
			hosts[fmt.Sprint(name, " ", port)] = true
		}
		for _, n := range []struct {
			key, of string
			when    bool
		}{
			{span.KeySumSent, span.KeyBytesSent, s.Kind == span.Close},
			{span.KeySumReceived, span.KeyBytesReceived, s.Kind == span.Close},
			{span.KeySumCPU, span.KeyCPUTime, program}, {span.KeyLost, span.KeyLost, s.Kind == span.Loss},
		} {
			v, _ := a.Int(n.of)
			add(n.key, v, n.when)
		}
		if peak, _ := a.Int(span.KeyPeakMemory); program && peak > sum[span.KeySumMemory] {
			sum[span.KeySumMemory] = peak
		}
		_, is := notable.Of(s)
		add(span.KeyNotables, 1, is)
		ended := s.Kind == span.SessionCall && !a.Is(span.KeyPartial)
		add(span.KeyCalls, 1, ended)
		add(span.KeyCallsFailed, 1, ended && s.Failed)
		add(span.KeyCallsDenied, 1, ended && a.Text(span.KeyApproval) == "denied")
	}
	if len(hosts) > 0 {
		sum[span.KeyHosts] = int64(len(hosts))
	}
	return sum
}

// checkAccounts holds every account among spans, which are in their order, against the sums of the spans before it. Of
// a call these are its own; in a call that is in the agent's own trace they are there, too. It says how many calls and
// others it has looked at.
func checkAccounts(t *testing.T, spans []*span.Span) (calls, others int) {
	t.Helper()
	keys := []string{
		span.KeyPrograms, span.KeyProgramsFailed, span.KeyFilesRead, span.KeyFilesRefused, span.KeySecrets, span.KeyOutsideCount,
		span.KeyHosts, span.KeySumSent, span.KeySumReceived, span.KeySumCPU, span.KeySumMemory, span.KeyNotables, span.KeyLost,
		span.KeyCalls, span.KeyCallsFailed, span.KeyCallsDenied,
	}
	for at, s := range spans {
		a := span.Attrs(s.Attrs)
		var of []*span.Span
		switch {
		case s.Kind == span.SessionCall:
			calls++
			for _, other := range spans[:at+1] {
				b := span.Attrs(other.Attrs)
				same := func(key string) bool { return a.Text(key) != "" && a.Text(key) == b.Text(key) }
				if other.Instance == s.Instance && (same(span.KeyCallID) || same(span.KeyCallContext)) &&
					b.Text(span.KeyAttribution) != "started_by" && (other == s || other.Kind != span.SessionCall) {
					of = append(of, other)
				}
			}
		case s.Kind == span.SandboxEnd, s.Kind == span.SessionEnd, s.Kind == span.Session && !a.Is(span.KeyPartial) && !s.StandIn:
			others++
			for _, other := range spans[:at] {
				if other.Instance == s.Instance {
					of = append(of, other)
				}
			}
		default:
			continue
		}
		want, got := sumOf(of), map[string]int64{}
		if s.Kind == span.SessionCall {
			for _, key := range []string{span.KeyCalls, span.KeyCallsFailed, span.KeyCallsDenied} {
				delete(want, key)
			}
		}
		for _, key := range keys {
			if n, ok := a.Int(key); ok {
				got[key] = n
			}
		}
		summary := a.Text(span.KeyCallSummary) + a.Text(span.KeySessionSummary)
		if !maps.Equal(got, want) || summary == "" || len(summary) > 300 {
			t.Errorf("%s %s (%s):\n%v\nwant\n%v", s.Kind, a.Text(span.KeyCallTitle), summary, got, want)
		}
		for _, l := range []struct{ count, names string }{
			{span.KeySecrets, span.KeySecretNames}, {span.KeyOutsideCount, span.KeyOutsideNames}, {span.KeyHosts, span.KeyHostNames},
		} {
			if n, names := got[l.count], a.List(l.names); int64(len(names)) > n || n > 0 && len(names) == 0 {
				t.Errorf("%d of %s, with the names %q", n, l.count, names)
			}
		}
	}
	return calls, others
}

// What a call, an agent and a sandbox are said to have done is what their spans say, in every recorded session.
func TestAccountsAreTheSumsOfTheirSpans(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob(filepath.Join("..", "testdata", "agents", "*.capture.gz"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		name := strings.TrimSuffix(filepath.Base(name), ".capture.gz")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var user []agents.Dialect
			if name == "my-harness" {
				user = append(user, harness)
			}
			r := replayAgent(t, name, user...)
			if calls, others := checkAccounts(t, r.spans); calls < 5 || others == 0 {
				t.Errorf("%d calls, and %d agents and sandboxes", calls, others)
			}
			for _, s := range r.spans {
				if s.Kind.Story() {
					t.Log(s.Kind, r.text(s, span.KeyCallTitle), "⟶", r.text(s, span.KeyCallSummary)+r.text(s, span.KeySessionSummary))
				}
			}
		})
	}
}

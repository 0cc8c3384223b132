// SPDX-License-Identifier: Apache-2.0

package span

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// recipe is the rule of docs/spans.md: fields joined by NUL, hashed, cut.
func recipe(length int, fields ...string) string {
	var text string
	for n, f := range fields {
		if n > 0 {
			text += "\x00"
		}
		text += f
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:length])
}

func TestIdsCanBeRecomputed(t *testing.T) {
	i := Image{Tgid: 42, Start: 1234567890123, ExecID: 3}
	trace := TraceFor("agent-1", "", 2)
	story := StoryFor("agent-1", 3)
	call := TraceFor("s", "call_1", 0)
	for _, c := range []struct {
		name      string
		got, want string
	}{
		{"trace", hex.EncodeToString(trace[:]), "62656e64" + recipe(12, "sheetbend trace", "agent-1", "", "2")},
		{"trace of a call", hex.EncodeToString(call[:]), "62656e64" + recipe(12, "sheetbend trace", "s", "call_1", "0")},
		{"story", hex.EncodeToString(story[:]), "62656e64" + recipe(12, "sheetbend story", "agent-1", "", "3")},
		{"session", text16(SessionSpan("agent-1", 0)), recipe(8, "sheetbend session", "agent-1", "")},
		{"session of a later part", text16(SessionSpan("agent-1", 2)), recipe(8, "sheetbend session", "agent-1", "", "2")},
		{"call", text16(CallSpan("agent-1", "c")), recipe(8, "sheetbend session call", "agent-1", "c")},
		{"agent", AgentInstance("boot", i), "agent-" + recipe(8, "sheetbend agent", "boot", "42", "1234567890123", "3")},
		{"harness", HarnessInstance("sb-1", "s"), "harness-" + recipe(8, "sheetbend harness", "sb-1", "s")},
		{"tool", text16(ToolSpan("agent-1", "c", 0)), recipe(8, "sheetbend tool", "agent-1", "c")},
		{"tool in a later slice", text16(ToolSpan("agent-1", "c", 2)), recipe(8, "sheetbend tool", "agent-1", "c", "2")},
		{"stand-in", text16(StandInSpan("boot", i, call)), recipe(8, "sheetbend stand-in", "boot", "42", "1234567890123", "3", hex.EncodeToString(call[:]))},
		{"sandbox", SandboxID("boot", 77), "sb-" + recipe(8, "sheetbend sandbox", "boot", "77")},
		{"exec", text16(ExecSpan("boot", i)), recipe(8, "sheetbend exec", "boot", "42", "1234567890123", "3")},
		{"seen", text16(SeenSpan("boot", i, 9)), recipe(8, "sheetbend seen", "boot", "42", "1234567890123", "3", "9")},
		{"exit", text16(ExitSpan("boot", i)), recipe(8, "sheetbend exit", "boot", "42", "1234567890123", "3")},
		{"open", text16(OpenSpan("boot", i, 43, 9)), recipe(8, "sheetbend open", "boot", "42", "1234567890123", "3", "43", "9")},
		{"connect", text16(ConnectSpan("boot", i, 43, 9)), recipe(8, "sheetbend connect", "boot", "42", "1234567890123", "3", "43", "9")},
		{"escape", text16(EscapeSpan("boot", i, 43, 9)), recipe(8, "sheetbend escape", "boot", "42", "1234567890123", "3", "43", "9")},
		{"socket", text16(SocketSpan("boot", i, 43, 9)), recipe(8, "sheetbend socket", "boot", "42", "1234567890123", "3", "43", "9")},
		{"namespace", text16(NamespaceSpan("boot", i, 43, 9)), recipe(8, "sheetbend namespace", "boot", "42", "1234567890123", "3", "43", "9")},
		{"access", text16(AccessSpan("boot", i, 43, 9)), recipe(8, "sheetbend access", "boot", "42", "1234567890123", "3", "43", "9")},
		{"loss", text16(LossSpan("boot", "s", 7, Image{}, "open", "ring_full", 8, 9)), recipe(8, "sheetbend loss", "boot", "s", "7", "open", "ring_full", "8", "9")},
		{"loss of a process", text16(LossSpan("boot", "s", 7, Image{Tgid: 10, Start: 11}, "open", "ring_full", 8, 9)), recipe(8, "sheetbend loss", "boot", "s", "7", "open", "ring_full", "8", "9", "10", "11")},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", c.name, c.got, c.want)
		}
	}
}

func text16(id ID) string { return hex.EncodeToString(id[:]) }

// The ids of contract 2, computed elsewhere:
//
//	printf 62656e64; printf 'sheetbend trace\0demo\0\0000' | sha256sum | cut -c1-24
//	printf 'sheetbend tool\0demo\0call_1' | sha256sum | cut -c1-16
func TestIdsDoNotChange(t *testing.T) {
	trace := TraceFor("demo", "", 0)
	if got := hex.EncodeToString(trace[:]); got != "62656e6423c6e210bff9a6c7d9442cd7" {
		t.Errorf("trace %s", got)
	}
	if got := text16(ToolSpan("demo", "call_1", 0)); got != "6b6520081afcda1d" {
		t.Errorf("tool %s", got)
	}
}

func TestIdsDoNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { OpenSpan("6f1c3a52-0000-0000-0000-000000000000", Image{1, 2, 3}, 4, 5) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

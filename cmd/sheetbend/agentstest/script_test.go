// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"fmt"
	"strings"

	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

// The scripts. Every command reads a file that no other one reads: whose open that is, is the question.
func steps(d *desk, session string) modeltest.Script {
	return modeltest.Script{Name: "steps", Turns: [][]modeltest.Call{
		{modeltest.Shell(d.read("single") + "; printenv " + session + " > " + d.dir + "/session")},
		{modeltest.Shell(d.read("left")), modeltest.Shell(d.read("right"))},
		{modeltest.Shell(d.read("failing") + "; exit 7")},
		{modeltest.Shell("touch " + d.dir + "/denied")},
		{modeltest.Shell(d.read("after"))},
	}}
}

// server leaves a process behind that opens a file while the next call runs.
func server(d *desk) modeltest.Script {
	const wait = "until [ -e %s ]; do sleep 0.05; done; "
	return modeltest.Script{Name: "server", Turns: [][]modeltest.Call{
		{modeltest.Shell(d.read("start") + "; (setsid sh -c '" + fmt.Sprintf(wait, d.dir+"/go") + d.read("late") +
			"; echo > " + d.dir + "/done' </dev/null >/dev/null 2>&1 &)")},
		{modeltest.Shell(d.read("next") + "; echo > " + d.dir + "/go; " + fmt.Sprintf(wait, d.dir+"/done"))},
	}}
}

// overlap has two calls that wait for each other: they end only if they run at the same time.
func overlap(d *desk) modeltest.Script {
	meet := func(mine, other string) modeltest.Call {
		return modeltest.Shell(d.read(mine) + "; echo > " + d.dir + "/" + mine + ".here; until [ -e " + d.dir + "/" + other + ".here ]; do sleep 0.05; done; " + d.read(mine+"-later"))
	}
	return modeltest.Script{Name: "overlap", Turns: [][]modeltest.Call{{meet("here", "there"), meet("there", "here")}}}
}

// feed starts a program in one call and gives it input in the next.
func feed(d *desk) modeltest.Script {
	ask := d.read("asks") + "; read name; cat " + d.dir + "/$name"
	_ = d.read("answered")
	return modeltest.Script{Name: "feed", Turns: [][]modeltest.Call{
		{{Tool: "exec_command", Input: func(map[string]string) map[string]any {
			return map[string]any{"cmd": ask, "tty": true, "yield_time_ms": 500}
		}}},
		{{Tool: "write_stdin", Input: func(results map[string]string) map[string]any {
			var id int
			_, rest, _ := strings.Cut(results[modeltest.ID("feed", 0, 0)], "session ID ")
			_, _ = fmt.Sscan(rest, &id)
			return map[string]any{"session_id": id, "chars": "answered\n", "yield_time_ms": 2000}
		}}},
	}}
}

// nested starts another agent in a call.
func nested(d *desk, inner []string) []modeltest.Script {
	quoted := make([]string, len(inner))
	for i, arg := range inner {
		quoted[i] = "'" + arg + "'"
	}
	return []modeltest.Script{
		{Name: "outer", Turns: [][]modeltest.Call{
			{modeltest.Shell(d.read("before") + "; " + strings.Join(quoted, " ") + " </dev/null")},
			{modeltest.Shell(d.read("afterwards"))},
		}},
		{Name: "inner", Turns: [][]modeltest.Call{{modeltest.Shell(d.read("within"))}}},
	}
}

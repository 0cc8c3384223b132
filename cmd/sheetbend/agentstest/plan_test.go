// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

// A mark is something that one call touches, and nothing else does: a file of the working directory, or a port.
type mark struct {
	file, port string // either
	call       string // the model's id; "" of what belongs to no call
	// by are the programs that touch it for the call. Agents read files, too, that they see in a command line. Of a
	// file that the agent itself works on it is nil.
	by []string
	// writes: what counts is that the file is written.
	writes bool
	own    bool // of one of the agent's own tools, or of an MCP server
}

// A plan is a script in which every call leaves marks.
type plan struct {
	d       *desk
	scripts []modeltest.Script
	marks   []mark
}

// What agents have beside a tool for commands.
type abilities struct {
	write, edit, read bool   // files, by tools of the agent's own
	mcp               bool   // an MCP server (probe.py)
	subagent          string // the kind of it
}

// probe is an MCP server: its one tool opens a file, and has cat open another one.
const probe = `
import json, subprocess, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    if asked["method"] == "initialize":
        answer["result"] = {"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {"tools": {}},
                            "serverInfo": {"name": "probe", "version": "1"}}
    elif asked["method"] == "tools/list":
        answer["result"] = {"tools": [{"name": "look", "description": "looks at a file", "inputSchema": {
            "type": "object", "properties": {"file": {"type": "string"}}, "required": ["file"]}}]}
    elif asked["method"] == "tools/call":
        file = asked["params"]["arguments"]["file"]
        open(file).close()
        subprocess.run(["cat", file + "-cat"], stdout=subprocess.DEVNULL)
        answer["result"] = {"content": [{"type": "text", "text": "seen"}]}
    else:
        answer["error"] = {"code": -32601, "message": "no such method"}
    print(json.dumps(answer), flush=True)
`

// children opens three files: by a program that it starts, by a child that is no program of its own, and by a
// grandchild whose parent is gone.
const children = `
import os, subprocess, sys
subprocess.run(["cat", sys.argv[1] + "-run"], stdout=subprocess.DEVNULL)
if os.fork() == 0:
    open(sys.argv[1] + "-fork").close()
    os._exit(0)
os.wait()
if os.fork() == 0:
    if os.fork() == 0:
        open(sys.argv[1] + "-orphan").close()
        os._exit(0)
    os._exit(0)
os.wait()
`

var cats, pythons = []string{"cat"}, []string{"python3*"}

// newPlan is for an agent with these abilities, at a desk in a git repository.
func newPlan(d *desk, can abilities) *plan {
	d.t.Helper()
	p := &plan{d: d}
	for name, text := range map[string]string{
		"probe.py": probe, "children.py": children,
		"work/notes.txt": "some text\n", "work/Makefile": "all: left right\nleft:\n\tcat $(MARKS)-left\nright:\n\tcat $(MARKS)-right\n",
	} {
		p.write(filepath.Join(filepath.Dir(d.dir), name), text)
	}
	git := exec.CommandContext(d.t.Context(), "sh", "-c", "git init -q && git add -A && git -c user.name=x -c user.email=x@example.com commit -qm x")
	git.Dir, git.Env = d.dir, d.environment()
	if out, err := git.CombinedOutput(); err != nil {
		d.t.Fatalf("git: %v: %s", err, out)
	}

	const forged = "CODEX_TOOL_CALL_ID=forged CODEX_SESSION_ID=forged CLAUDE_CODE_SESSION_ID=forged QWEN_CODE_SESSION_ID=forged " +
		"COPILOT_AGENT_SESSION_ID=forged TRACEPARENT=00-0123456789abcdef0123456789abcdef-0123456789abcdef-01 "
	wait := func(file string) string { return "until [ -e " + d.dir + "/" + file + " ]; do sleep 0.05; done; " }
	root := filepath.Dir(d.dir)
	var turns [][]modeltest.Call
	add := func(turn func(id func(call int) string) []modeltest.Call) {
		n := len(turns)
		turns = append(turns, turn(func(call int) string { return modeltest.ID("plan", n, call) }))
	}
	command := func(text func(id string) string) {
		add(func(id func(int) string) []modeltest.Call { return []modeltest.Call{modeltest.Shell(text(id(0)))} })
	}
	command(func(id string) string { return p.cat(id, "first") })
	add(func(id func(int) string) []modeltest.Call {
		return []modeltest.Call{
			modeltest.Shell(p.cat(id(0), "one") + "; sleep 0.3; " + p.cat(id(0), "one-later")),
			modeltest.Shell(p.cat(id(1), "other") + "; sleep 0.3; " + p.cat(id(1), "other-later")),
		}
	})
	command(func(id string) string {
		return p.cat(id, "starts") + "; setsid nohup sh -c '" + wait("go") + p.cat(id, "background") + "; echo > " + d.dir + "/done; " +
			wait("end") + p.cat(id, "background-end") + "; echo > " + d.dir + "/ended' </dev/null >/dev/null 2>&1 &"
	})
	command(func(id string) string {
		return "env -i PATH=$PATH " + forged + "sh -c '" + p.cat(id, "forged") + "'; " + forged + p.cat(id, "forged-too") + "; echo > " + d.dir + "/go; " + wait("done")
	})
	command(func(id string) string {
		p.file(id, "python-run", cats)
		p.file(id, "python-fork", pythons)
		p.file(id, "python-orphan", pythons)
		return "python3 " + root + "/children.py " + d.dir + "/m-python"
	})
	command(func(id string) string {
		p.file(id, "make-left", cats)
		p.file(id, "make-right", cats)
		return "make -s -j2 MARKS=" + d.dir + "/m-make"
	})
	command(func(id string) string { return p.connect(id) + "; " + p.connect(id) + "; " + p.cat(id, "connects") })
	command(func(id string) string { return p.cat(id, "fails") + "; exit 3" })
	if can.write {
		add(func(id func(int) string) []modeltest.Call {
			p.marks = append(p.marks, mark{file: d.dir + "/m-write", call: id(0), writes: true, own: true})
			return []modeltest.Call{modeltest.Write(d.dir+"/m-write", "one\ntwo\n")}
		})
	}
	if can.edit {
		edited := p.write(d.dir+"/m-edit", "one\ntwo\n")
		if can.read { // some edit only what they have read
			add(func(func(int) string) []modeltest.Call { return []modeltest.Call{modeltest.Read(edited)} })
		}
		add(func(id func(int) string) []modeltest.Call {
			p.marks = append(p.marks, mark{file: edited, call: id(0), writes: true, own: true})
			return []modeltest.Call{modeltest.Edit(edited, "two", "three")}
		})
	}
	if can.read {
		add(func(id func(int) string) []modeltest.Call {
			p.marks = append(p.marks, mark{file: p.write(d.dir+"/m-read", "text\n"), call: id(0), own: true})
			return []modeltest.Call{modeltest.Read(d.dir + "/m-read")}
		})
	}
	if can.mcp {
		add(func(id func(int) string) []modeltest.Call {
			p.marks = append(p.marks,
				mark{file: p.write(d.dir+"/m-mcp", "text\n"), call: id(0), by: pythons, own: true},
				mark{file: p.write(d.dir+"/m-mcp-cat", "text\n"), call: id(0), by: cats, own: true})
			return []modeltest.Call{modeltest.MCP("probe", "look", map[string]any{"file": d.dir + "/m-mcp"})}
		})
	}
	if can.subagent != "" {
		p.scripts = append(p.scripts, modeltest.Script{Name: "sub", Turns: [][]modeltest.Call{
			{modeltest.Shell(p.cat(modeltest.ID("sub", 0, 0), "subagent"))},
			{modeltest.Shell(p.cat(modeltest.ID("sub", 1, 0), "subagent-again"))},
		}})
		add(func(func(int) string) []modeltest.Call {
			return []modeltest.Call{modeltest.Subagent(can.subagent, "sub")}
		})
	}
	command(func(id string) string {
		return p.cat(id, "last") + "; echo > " + d.dir + "/end; " + wait("ended") + "true"
	})
	p.scripts = append(p.scripts, modeltest.Script{Name: "plan", Turns: turns})
	return p
}

// ids are those of all calls of the model.
func (p *plan) ids() map[string]bool {
	ids := map[string]bool{}
	for _, s := range p.scripts {
		for turn, calls := range s.Turns {
			for call := range calls {
				ids[modeltest.ID(s.Name, turn, call)] = true
			}
		}
	}
	return ids
}

func (p *plan) write(file, text string) string {
	p.d.t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		p.d.t.Fatal(err)
	}
	return file
}

// file is one that a program of the call opens; it gives its path.
func (p *plan) file(call, name string, by []string) string {
	p.d.t.Helper()
	file := p.write(p.d.dir+"/m-"+name, "this is "+name+"\n")
	p.marks = append(p.marks, mark{file: file, call: call, by: by})
	return file
}

// cat is a command that reads a file of the call.
func (p *plan) cat(call, name string) string {
	p.d.t.Helper()
	return "cat " + p.file(call, name, cats)
}

// connect is a command that connects to a port of the call.
func (p *plan) connect(call string) string {
	p.d.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.d.t.Fatal(err)
	}
	p.d.t.Cleanup(func() { _ = l.Close() })
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	p.marks = append(p.marks, mark{port: port, call: call})
	return "bash -c 'exec 3<>/dev/tcp/127.0.0.1/" + port + "'"
}

// touches says whether one of the programs is called so; "*" as the last character stands for any end.
func (m *mark) touches(program string) bool {
	for _, by := range m.by {
		if head, any := strings.CutSuffix(by, "*"); program == by || any && strings.HasPrefix(program, head) {
			return true
		}
	}
	return m.by == nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/host"
	"github.com/sheetbend/sheetbend/enrich/marker/hook"
	"github.com/sheetbend/sheetbend/enrich/telemetry"
)

func testDialects() *agents.Table {
	return agents.NewTable([]agents.Dialect{
		{
			Name: "native", Executables: []string{"native-agent"},
			Enable: agents.Enable{Args: []string{"-c", "otel={endpoint}/v1/logs"}, Present: []string{"otel"}},
		},
		{
			Name: "scripted", Scripts: []string{"scripted/cli.js", "bin/scripted"},
			Enable: agents.Enable{
				Env:     map[string]string{"SCRIPTED_TELEMETRY": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": "{endpoint}"},
				Args:    []string{"--telemetry"},
				Present: []string{"OTEL_EXPORTER_OTLP_ENDPOINT"}, Also: "and more",
			},
		},
		{Name: "silent", Executables: []string{"silent-agent"}},
	})
}

// agentFiles are programs as package managers install them.
func agentFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"lib/native-agent":    "\x7fELF",
		"lib/silent-agent":    "\x7fELF",
		"lib/cline":           "\x7fELF",
		"lib/goose":           "\x7fELF",
		"lib/scripted/cli.js": "#!/usr/bin/env -S node --no-warnings\n",
		"bin/node":            "\x7fELF",
		"bin/wrapper":         "#!/bin/sh\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range [][2]string{{"../lib/native-agent", "bin/native-agent"}, {"../lib/scripted/cli.js", "bin/scripted"}} {
		if err := os.Symlink(l[0], filepath.Join(dir, l[1])); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTelemetryIsSwitchedOnInTheWayOfTheAgentThatIsStarted(t *testing.T) {
	dir := agentFiles(t)
	t.Setenv("PATH", dir+"/bin:"+os.Getenv("PATH"))
	const endpoint = "http://127.0.0.1:1"
	for _, c := range []struct {
		name    string
		named   string // --agent
		args    []string
		program string
		want    []string // arguments
		env     bool
	}{
		{"a program behind a link", "", []string{"native-agent", "exec", "x"}, "bin/native-agent", []string{"native-agent", "-c", "otel=" + endpoint + "/v1/logs", "exec", "x"}, false},
		{"a script with a first line", "", []string{"scripted", "x"}, "bin/scripted", []string{"scripted", "--telemetry", "x"}, true},
		{"a script behind its interpreter", "", []string{"node", "--opt", dir + "/lib/scripted/cli.js", "x"}, "bin/node", []string{"node", "--opt", dir + "/lib/scripted/cli.js", "--telemetry", "x"}, true},
		{"a wrapper that is said to start it", "scripted", []string{"wrapper", "x"}, "bin/wrapper", []string{"wrapper", "x"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := launch{filepath.Join(dir, c.program), c.args, []string{"A=b", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://elsewhere", "OTEL_EXPORTER_OTLP_ENDPOINT="}}
			before := slices.Clone(l.args)
			d, at := dialectOf(testDialects(), c.named, l)
			if d == nil {
				t.Fatal("not known")
			}
			got, set := enable(d, l, at, endpoint)
			if !slices.Equal(got.args, c.want) || len(set) == 0 {
				t.Errorf("arguments %q, want %q; set %q", got.args, c.want, set)
			}
			if !slices.Equal(l.args, before) {
				t.Error("the command itself was changed")
			}
			wantEnv := []string{"A=b", "OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint, "SCRIPTED_TELEMETRY=1"}
			if !c.env {
				wantEnv = l.env
			}
			if !slices.Equal(got.env, wantEnv) {
				t.Errorf("environment %q, want %q", got.env, wantEnv)
			}
		})
	}
}

func TestTelemetryThatIsSetUpOrCannotBeStaysAsItIsAndTheUserIsTold(t *testing.T) {
	dir := agentFiles(t)
	t.Setenv("PATH", dir+"/bin:"+os.Getenv("PATH"))
	in := &intake{to: "http://127.0.0.1:4317"}
	for _, c := range []struct {
		name, agent string
		args        []string
		program     string
		env         []string
		says        string
	}{
		{"it goes elsewhere", "", []string{"scripted"}, "bin/scripted", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"}, "set up already (OTEL_EXPORTER_OTLP_ENDPOINT)"},
		{"by an argument", "", []string{"native-agent", "-c", "otel.x=1"}, "bin/native-agent", nil, "set up already (otel…)"},
		{"no agent", "", []string{"sh"}, "bin/wrapper", nil, "no agent that is known"},
		{"a name that is no agent's", "nobody", []string{"sh"}, "bin/wrapper", nil, "no agent that is known"},
		{"an agent without a switch", "", []string{"silent-agent"}, "lib/silent-agent", nil, "no switch"},
		{"a wrapper of one that takes arguments", "native", []string{"wrapper"}, "bin/wrapper", nil, "takes arguments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := launch{filepath.Join(dir, c.program), c.args, c.env}
			got, line := switchOn(testDialects(), c.agent, l, identity{}, in, hookProgram{}, nil)
			if !slices.Equal(got.args, c.args) || !slices.Equal(got.env, c.env) || !strings.Contains(line, c.says) {
				t.Errorf("%q %q, said %q", got.args, got.env, line)
			}
		})
	}
	d := testDialects().Named("scripted")
	if by := elsewhere(d, launch{args: []string{"x"}, env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317"}}, in.to); by != "" {
		t.Errorf("the backend of the spans is taken for elsewhere: %s", by)
	}
}

func TestTelemetryThatTheAgentsOwnFilesSetUpStaysAsItIs(t *testing.T) {
	table := agents.NewTable(agents.Builtin())
	in := &intake{to: "http://127.0.0.1:4317"}
	for _, c := range []struct {
		name, agent, file, text, says string
	}{
		{"the user's settings", "claude-code", "home/.claude/settings.json", `{"env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://telemetry.example"}}`, "OTEL_EXPORTER_OTLP_ENDPOINT in "},
		{"of one signal", "claude-code", "home/.claude/settings.json", `{"env": {"A": 1, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://telemetry.example"}}`, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT in "},
		{"of another directory", "claude-code", "other/settings.json", `{"env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://telemetry.example"}}`, "other/settings.json"},
		{"the project's settings", "claude-code", "cwd/.claude/settings.json", `{"env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://telemetry.example"}}`, "cwd/.claude/settings.json"},
		{"the project's local settings", "claude-code", "cwd/.claude/settings.local.json", `{"env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://telemetry.example"}}`, "settings.local.json"},
		{"settings without telemetry", "claude-code", "home/.claude/settings.json", `{"env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "", "OTEL_SERVICE_NAME": "x"}}`, ""},
		{"settings that are none", "claude-code", "home/.claude/settings.json", `{"env": `, ""},
		{"Codex's table", "codex", "home/.codex/config.toml", "model = 'x'\n[otel]\nenvironment = 'dev'\n[otel.trace_exporter.otlp-http]\nendpoint = 'https://telemetry.example'\n", "otel.trace_exporter in "},
		{"Codex's inline table", "codex", "other/config.toml", "otel = {exporter = {otlp-grpc = {endpoint = 'https://telemetry.example'}}}", "otel.exporter in "},
		{"Codex's table that is off", "codex", "home/.codex/config.toml", "[otel]\nexporter = 'none'\nlog_user_prompt = false\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, d := range []string{"home", "cwd", filepath.Dir(c.file)} {
				if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Chdir(filepath.Join(dir, "cwd"))
			l := launch{"/bin/true", []string{"wrapper"}, []string{"HOME=" + filepath.Join(dir, "home")}}
			if strings.HasPrefix(c.file, "other") {
				l.env = append(l.env, "CLAUDE_CONFIG_DIR="+filepath.Join(dir, "other"), "CODEX_HOME="+filepath.Join(dir, "other"))
			}
			got := setUpIn(table.Named(c.agent), l, identity{})
			if (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
				t.Errorf("said %q, want %q", got, c.says)
			}
			if c.agent == "claude-code" && c.says != "" {
				if after, line := switchOn(table, "claude-code", l, identity{}, in, hookProgram{}, nil); !slices.Equal(after.env, l.env) || !strings.Contains(line, "stays as it is") || !strings.Contains(line, c.says) {
					t.Errorf("%q, said %q", after.env, line)
				}
			}
		})
	}
}

func TestAnAgentsFilesAreReadWithTheRightsOfItsUser(t *testing.T) {
	home := homeOf(t, somebody)
	who := identity{credential: &syscall.Credential{Uid: somebody, Gid: somebody}}
	name := filepath.Join(home, "config.toml")
	for what, c := range map[string]struct {
		make func() error
		ok   bool
	}{
		"the user's own":             {func() error { asOwner(t, somebody, name, "x"); return nil }, true},
		"root's, readable for all":   {func() error { return os.WriteFile(name, []byte("x"), 0o644) }, true},
		"root's secret":              {func() error { return os.WriteFile(name, []byte("x"), 0o600) }, false},
		"another user's":             {func() error { asOwner(t, somebody+1, name, "x"); return os.Chmod(name, 0o644) }, false},
		"a link to root's secret":    {func() error { linkOf(t, somebody, "/etc/shadow", name); return nil }, false},
		"a FIFO":                     {func() error { return unix.Mkfifo(name, 0o666) }, false},
		"a file of more than 16 MiB": {func() error { asOwner(t, somebody, name, ""); return os.Truncate(name, 16<<20+1) }, false},
		"a device that never ends":   {func() error { linkOf(t, somebody, "/dev/zero", name); return nil }, false},
		"a directory":                {func() error { return os.Mkdir(name, 0o755) }, false},
	} {
		if err := c.make(); err != nil {
			t.Fatal(err)
		}
		if text, err := who.readOwn(name); (err == nil) != c.ok || c.ok && string(text) != "x" {
			t.Errorf("%s: %q, %v", what, text, err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnAgentIsToldItsHost(t *testing.T) {
	attrs := func(pairs ...string) (attrs []span.Attr) {
		for n := 0; n < len(pairs); n += 2 {
			attrs = append(attrs, span.Attr{Key: pairs[n], Kind: span.StringAttr, Str: pairs[n+1]})
		}
		return attrs
	}
	for _, c := range []struct {
		name, set string
		host      []span.Attr
		want      string
	}{
		{"nothing is set", "", attrs("os.type", "linux", "ip", "192.0.2.1", "host.name", "a", "host.id", "b"), "ip=192.0.2.1,host.name=a,host.id=b"},
		{"the user's stay", "team=x,host.name=mine", attrs("ip", "192.0.2.1", "host.name", "a"), "team=x,host.name=mine,ip=192.0.2.1"},
		{"all is set", "ip=1", attrs("ip", "192.0.2.1"), "ip=1"},
		{"what the form has a meaning for", "", attrs("ip", "2001:db8::1", "host.name", "a,b=c d%é"), "ip=2001:db8::1,host.name=a%2Cb%3Dc%20d%25%C3%A9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := []string{"A=b"}
			if c.set != "" {
				env = append(env, varResource+"="+c.set)
			}
			got, changed := onHost(env, c.host)
			if value, _ := lookupEnv(got, varResource); value != c.want || changed != (c.set != c.want) || len(got) != 2 {
				t.Errorf("%q, want %s", got, c.want)
			}
			// Read as the sensor reads it, it is the host again.
			read, err := host.FromEnvironment(func(name string) string { v, _ := lookupEnv(got, name); return v })
			if err != nil {
				t.Error(err)
			}
			for _, a := range c.host {
				if i := slices.IndexFunc(read, func(b span.Attr) bool { return a.Key == b.Key }); i >= 0 && c.set == "" && read[i].Str != a.Str {
					t.Errorf("%s is read as %q, want %q", a.Key, read[i].Str, a.Str)
				}
			}
		})
	}
}

func TestClaudeCodeGetsHooksForTheRunAndNoneTwice(t *testing.T) {
	dir := t.TempDir()
	claude := filepath.Join(dir, "node_modules/@anthropic-ai/claude-code/bin/claude.exe")
	sheetbend := filepath.Join(dir, "sheetbend")
	user := filepath.Join(dir, "home/.claude/settings.json")
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), mode)); err != nil {
			t.Fatal(err)
		}
	}
	write(claude, "\x7fELF", 0o755)
	write(filepath.Join(dir, "node_modules/@anthropic-ai/claude-code/package.json"), `{"name": "@anthropic-ai/claude-code", "version": "2.1.330"}`, 0o644)
	unknown := filepath.Join(dir, "a/b/c/d/claude")
	write(unknown, "\x7fELF", 0o755)
	write(filepath.Join(dir, "wrapper"), "#!/bin/sh\n", 0o755)
	write(sheetbend, "\x7fELF", 0o755)
	write(filepath.Join(dir, "not mine/sheetbend"), "\x7fELF", 0o755)
	write(filepath.Join(dir, "locked"), "\x7fELF", 0o644)
	t.Chdir(dir)
	place := hook.FindPlace("claude-code")
	installed, err := place.Install(nil, "/usr/bin/sheetbend", "2.1.330")
	if err != nil {
		t.Fatal(err)
	}
	some, err := place.Install(nil, "/usr/bin/sheetbend", "2.0.30")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, program string
		args          []string
		settings      string
		hook          hookProgram
		says          string
		added         bool
	}{
		{"they are added", claude, []string{"claude", "-p", "x"}, `{"model": "x"}`, hookProgram{file: sheetbend, reached: true}, "with hooks (--settings)", true},
		{"without settings of the user", claude, []string{"claude"}, "", hookProgram{file: sheetbend, reached: true}, "with hooks (--settings)", true},
		{"its version is not known", unknown, []string{"claude"}, "", hookProgram{file: sheetbend, reached: true}, "with hooks (--settings; its version is not known", true},
		{"hooks that are not all", claude, []string{"claude"}, string(some), hookProgram{file: sheetbend, reached: true}, "with hooks (--settings)", true},
		{"the user's own --settings", claude, []string{"claude", "--settings", "{}", "-p", "x"}, "", hookProgram{file: sheetbend, reached: true}, "without hooks: --settings is given", false},
		{"the same in one word", claude, []string{"claude", "--settings={}"}, "", hookProgram{file: sheetbend, reached: true}, "without hooks: --settings is given", false},
		{"they are installed", claude, []string{"claude"}, string(installed), hookProgram{file: sheetbend, reached: true}, "with the hooks in " + user, false},
		{"a wrapper", filepath.Join(dir, "wrapper"), []string{"wrapper"}, "", hookProgram{file: sheetbend, reached: true}, "without hooks: wrapper is not the agent itself", false},
		{"a wrapper, and they are installed", filepath.Join(dir, "wrapper"), []string{"wrapper"}, string(installed), hookProgram{file: sheetbend, reached: true}, "with the hooks in " + user, false},
		{"no sensor to reach", claude, []string{"claude"}, "", hookProgram{file: sheetbend, reached: false}, "without hooks: they would not reach this sensor", false},
		{"a path that a shell would not take", claude, []string{"claude"}, "", hookProgram{file: filepath.Join(dir, "not mine/sheetbend"), reached: true}, "without hooks: they would not be known", false},
		{"the user wants no arguments added", claude, []string{"claude"}, "", hookProgram{file: sheetbend, reached: true, unwanted: true}, "without hooks: --no-agent-args is given", false},
		{"a program that cannot be run", claude, []string{"claude"}, "", hookProgram{file: filepath.Join(dir, "locked"), reached: true}, "without hooks: the agent's user cannot run", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_ = os.RemoveAll(filepath.Dir(user))
			if c.settings != "" {
				write(user, c.settings, 0o600)
			}
			l := launch{c.program, c.args, []string{"HOME=" + filepath.Join(dir, "home")}}
			got, line := switchOn(agents.NewTable(agents.Builtin()), "claude-code", l, identity{}, &intake{in: listeningAt(t)}, c.hook, nil)
			want := c.args
			if c.added {
				want = slices.Insert(slices.Clone(c.args), 1, "--settings", string(place.Settings(c.hook.file, map[string]string{claude: "2.1.330", unknown: "0.0.0"}[c.program])))
			}
			if !slices.Equal(got.args, want) || !strings.Contains(line, c.says) || !strings.Contains(line, "claude-code reports its own telemetry") {
				t.Errorf("%q, said %q", got.args, line)
			}
			if text, err := os.ReadFile(user); string(text) != c.settings {
				t.Errorf("the user's settings are now %q, %v", text, err)
			}
		})
	}
}

// What an agent's telemetry does not give is said, and no line has one think that it does.
func TestTheLineSaysWhatAnAgentsTelemetryGives(t *testing.T) {
	in := &intake{in: listeningAt(t)}
	for name, says := range map[string]string{
		"claude-code": "read from it: ids and tools of its calls", "codex": "read from it: who approved",
		"gemini-cli": "nothing of it gets onto the spans", "copilot-cli": "nothing of it gets onto the spans",
		"opencode": "nothing of it gets onto the spans", "goose": "nothing of it gets onto the spans",
		"qwen-code": "only with outboundCorrelation.propagateTraceContext",
	} {
		l := launch{"/bin/true", []string{"wrapper"}, []string{"HOME=/nonexistent"}}
		if name == "codex" { // by arguments
			l.args, l.program = []string{"codex"}, filepath.Join(t.TempDir(), "codex")
			if err := os.WriteFile(l.program, []byte("\x7fELF"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if _, line := switchOn(agents.NewTable(agents.Builtin()), name, l, identity{}, in, hookProgram{}, nil); !strings.Contains(line, says) {
			t.Errorf("%s: said %q", name, line)
		}
	}
}

// listening is an intake's own part.
func listeningAt(t *testing.T) *telemetry.Intake {
	t.Helper()
	in, err := telemetry.Listen(telemetry.Options{Listen: "127.0.0.1:0", Said: func(record.Said, telemetry.Sender) {}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(t.Context()) })
	return in
}

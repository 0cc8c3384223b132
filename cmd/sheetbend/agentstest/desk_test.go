// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

const (
	// agentsEnv names the directory with the node_modules of testdata/agents/npm: `make agents` makes it.
	agentsEnv = "SHEETBEND_AGENTS"
	// binEnv names the sheetbend to be tested.
	binEnv = "SHEETBEND_BIN"

	// patience bounds each run. Machines are shared; nothing depends on the time it takes.
	patience = 5 * time.Minute
)

// A realAgent is how to start an agent, as it is installed, against a scripted model.
type realAgent struct {
	name    string // of its dialect
	fixture string // of its recorded session; the name if it is empty
	pkg     string // in node_modules
	command string // in node_modules/.bin
	// files are written into its home directory; {url}, {dir}, {home} and {agents} are put in.
	files map[string]string
	env   []string // as above
	args  []string // before the prompt; as above
	// free are further arguments that let commands do anything, without a sandbox of the agent's own.
	free []string
	// session is the variable in which it tells its commands its session.
	session string
	// flags are of sheetbend, for what the user has set up; filled in as above.
	flags []string
}

var codex = realAgent{
	name: "codex", pkg: "@openai/codex", command: "codex", session: "CODEX_SESSION_ID",
	files: map[string]string{
		// The rest keeps it from asking for things on the internet.
		".codex/config.toml": `
model = "scripted"
model_provider = "scripted"
check_for_update_on_startup = false
[analytics]
enabled = false
[features]
plugins = false
apps = false
memories = false
[model_providers.scripted]
name = "scripted"
base_url = "{url}/v1"
wire_api = "responses"
`,
		".codex/rules/default.rules": `prefix_rule(pattern = ["touch"], decision = "forbidden")` + "\n",
	},
	args: []string{"exec", "--skip-git-repo-check", "--sandbox", "workspace-write"},
	free: []string{"--sandbox", "danger-full-access"},
}

// codexCode is one whose user has chosen no model: for the model that it takes then, calls are programs.
var codexCode = realAgent{
	name: codex.name, pkg: codex.pkg, command: codex.command, session: codex.session, args: codex.args, free: codex.free,
	files: map[string]string{
		".codex/config.toml":         strings.Replace(codex.files[".codex/config.toml"], "model = \"scripted\"\n", "", 1),
		".codex/rules/default.rules": codex.files[".codex/rules/default.rules"],
	},
}

var claude = realAgent{
	name: "claude-code", pkg: "@anthropic-ai/claude-code", command: "claude", session: "CLAUDE_CODE_SESSION_ID",
	files: map[string]string{
		".claude/settings.json": `{"permissions": {"deny": ["Bash(touch:*)"]}}` + "\n",
	},
	env: []string{
		"ANTHROPIC_BASE_URL={url}", "ANTHROPIC_API_KEY=none", "ANTHROPIC_MODEL=scripted",
		"IS_SANDBOX=1", // as root it refuses to skip its questions otherwise
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "DISABLE_AUTOUPDATER=1", "DISABLE_TELEMETRY=1",
	},
	args: []string{"--dangerously-skip-permissions", "-p"},
}

var gemini = realAgent{
	name: "gemini-cli", pkg: "@google/gemini-cli", command: "gemini", session: "GEMINI_SESSION_ID",
	files: map[string]string{".gemini/settings.json": `{"security": {"auth": {"selectedType": "gemini-api-key"}}, ` +
		`"general": {"enableAutoUpdate": false}, "privacy": {"usageStatisticsEnabled": false}}` + "\n"},
	env:  []string{"GEMINI_API_KEY=none", "GOOGLE_GEMINI_BASE_URL={url}", "GEMINI_CLI_TRUST_WORKSPACE=true"},
	args: []string{"--yolo", "-m", "gemini-2.5-flash", "-p"},
}

var qwen = realAgent{
	name: "qwen-code", pkg: "@qwen-code/qwen-code", command: "qwen", session: "QWEN_CODE_SESSION_ID",
	files: map[string]string{".qwen/settings.json": `{"security": {"auth": {"selectedType": "openai"}}, "general": {"enableAutoUpdate": false}, ` +
		`"privacy": {"usageStatisticsEnabled": false}}` + "\n"},
	env:  []string{"OPENAI_API_KEY=none", "OPENAI_BASE_URL={url}/v1", "OPENAI_MODEL=scripted"},
	args: []string{"--yolo", "-p"},
}

var copilot = realAgent{
	name: "copilot-cli", pkg: "@github/copilot", command: "copilot", session: "COPILOT_AGENT_SESSION_ID",
	env: []string{
		"COPILOT_OFFLINE=true", "COPILOT_AUTO_UPDATE=false", "COPILOT_PROVIDER_BASE_URL={url}/v1", "COPILOT_PROVIDER_TYPE=openai",
		"COPILOT_PROVIDER_API_KEY=none", "COPILOT_MODEL=scripted",
		"COPILOT_PROVIDER_MAX_PROMPT_TOKENS=100000", "COPILOT_PROVIDER_MAX_OUTPUT_TOKENS=4096",
	},
	args: []string{"--allow-all", "--no-auto-update", "-p"},
}

var opencode = realAgent{
	name: "opencode", pkg: "opencode-ai", command: "opencode", session: "OPENCODE_SESSION_ID",
	files: map[string]string{".config/opencode/opencode.json": `{"autoupdate": false, "share": "disabled", "permission": "allow", "model": "local/scripted", ` +
		`"provider": {"local": {"npm": "@ai-sdk/openai-compatible", "options": {"baseURL": "{url}/v1", "apiKey": "none"}, "models": {"scripted": {"name": "scripted"}}}}}` + "\n"},
	env: []string{
		"OPENCODE_DISABLE_AUTOUPDATE=1", "OPENCODE_DISABLE_MODELS_FETCH=1", "OPENCODE_DISABLE_SHARE=1",
		"OPENCODE_DISABLE_LSP_DOWNLOAD=1", "OPENCODE_DISABLE_DEFAULT_PLUGINS=1",
	},
	args: []string{"run", "--auto"},
}

// qwenTraced is one whose user has it hand trace contexts on.
var qwenTraced = realAgent{
	name: qwen.name, fixture: "qwen-code-traced", pkg: qwen.pkg, command: qwen.command, session: qwen.session, env: qwen.env, args: qwen.args,
	files: map[string]string{".qwen/settings.json": `{"security": {"auth": {"selectedType": "openai"}}, "general": {"enableAutoUpdate": false}, ` +
		`"privacy": {"usageStatisticsEnabled": false}, "outboundCorrelation": {"propagateTraceContext": true}}` + "\n"},
	flags: []string{"--agent-telemetry"},
}

// opencodePlugin is one with the plugin of docs/agents.md, and the configuration that goes with it.
var opencodePlugin = realAgent{
	name: opencode.name, fixture: "opencode-plugin", pkg: opencode.pkg, command: opencode.command, session: opencode.session, env: opencode.env, args: opencode.args,
	files: map[string]string{
		".config/opencode/opencode.json": opencode.files[".config/opencode/opencode.json"],
		".config/opencode/plugin/ids.js": `
export const Ids = async () => ({
  "shell.env": async (call, out) => { out.env.OPENCODE_SESSION_ID = call.sessionID; out.env.OPENCODE_CALL_ID = call.callID },
})
`,
		"sheetbend.yaml": `
agents:
  - name: opencode
    env: {session: [OPENCODE_SESSION_ID], thread: [OPENCODE_SESSION_ID], call: [OPENCODE_CALL_ID], calls_named: true}
`,
	},
	flags: []string{"--config", "{home}/sheetbend.yaml"},
}

// codexBefore is a Codex that names the session to its commands, not the call.
var codexBefore = realAgent{
	name: codex.name, fixture: "codex-0.104", pkg: "codex-before", command: "codex", session: "CODEX_THREAD_ID",
	files: codex.files, args: codex.args,
}

// claudeSDK is a program that has the Agent SDK run Claude Code.
var claudeSDK = realAgent{
	name: claude.name, fixture: "claude-agent-sdk", pkg: "@anthropic-ai/claude-agent-sdk", command: "node", session: claude.session,
	files: map[string]string{
		".claude/settings.json": claude.files[".claude/settings.json"],
		"sdk.mjs": `
import { query } from "{agents}/node_modules/@anthropic-ai/claude-agent-sdk/sdk.mjs"
const options = {permissionMode: "bypassPermissions", allowDangerouslySkipPermissions: true, settingSources: ["user"]}
for await (const message of query({prompt: process.argv[2], options})) if (message.is_error) process.exit(1)
`,
	},
	env:  claude.env,
	args: []string{"{home}/sdk.mjs"},
}

// cline runs twice: from the second time on a daemon that the first one left behind runs the commands. It
// has to be ended.
var cline = realAgent{
	name: "cline", pkg: "cline", command: "sh", session: "CLINE_SESSION_ID",
	files: map[string]string{"twice": `
cline auth -p openai-compatible -k none -m scripted -b {url}/v1 &&
cline --auto-approve true -P openai-compatible -m scripted -k none "$2" </dev/null &&
cline --auto-approve true -P openai-compatible -m scripted -k none "$1" </dev/null
`},
	env:  []string{"CLINE_NO_AUTO_UPDATE=1"},
	args: []string{"{home}/twice"},
}

var pi = realAgent{
	name: "pi", pkg: "@mariozechner/pi-coding-agent", command: "pi", session: "PI_SESSION_ID",
	files: map[string]string{".pi/agent/models.json": `{"providers": {"local": {"baseUrl": "{url}/v1", "api": "openai-completions", "apiKey": "none", ` +
		`"models": [{"id": "scripted"}]}}}` + "\n"},
	env:  []string{"PI_OFFLINE=1", "PI_TELEMETRY=0"},
	args: []string{"--provider", "local", "--model", "scripted", "-p"},
}

var kimi = realAgent{
	name: "kimi-code", pkg: "@moonshot-ai/kimi-code", command: "kimi", session: "KIMI_SESSION_ID",
	files: map[string]string{".kimi-code/config.toml": `
default_model = "scripted"
default_permission_mode = "auto"
telemetry = false
auto_session_title = false
[providers.local]
type = "openai"
api_key = "none"
base_url = "{url}/v1"
[models.scripted]
provider = "local"
model = "scripted"
max_context_size = 100000
capabilities = ["tool_use"]
`},
	env:  []string{"KIMI_CODE_NO_AUTO_UPDATE=1"},
	args: []string{"-p"},
}

var nanocoder = realAgent{
	name: "nanocoder", pkg: "@nanocollective/nanocoder", command: "nanocoder", session: "NANOCODER_SESSION_ID",
	files: map[string]string{".config/nanocoder/agents.config.json": `{"nanocoder": {"providers": [{"name": "local", "baseUrl": "{url}/v1", "apiKey": "none", ` +
		`"models": ["scripted"]}]}}` + "\n"},
	args: []string{"--plain", "--trust-directory", "--mode", "yolo", "--provider", "local", "--model", "scripted", "run"},
}

// needAgents gives the directory where the agents are.
func needAgents(t *testing.T) string {
	t.Helper()
	dir := os.Getenv(agentsEnv)
	if dir == "" || os.Getenv(binEnv) == "" || os.Geteuid() != 0 {
		const missing = "needs root, sheetbend in " + binEnv + " and agents in " + agentsEnv + ": `make test-agents` sees to that"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	return dir
}

// A desk is a place for an agent to work at: a home, a working directory and a model.
type desk struct {
	t         *testing.T
	installed string // the directory of needAgents
	dir       string // where commands work
	home, tmp string
	model     *modeltest.Server
	env       []string      // of the sensor and the agent, besides
	types     func() string // asked again and again for what the user types, on a terminal; may be nil
}

// newDesk makes one below root, or below a directory of the test if root is empty.
func newDesk(t *testing.T, installed, root string, scripts func(d *desk) []modeltest.Script) *desk {
	t.Helper()
	if root == "" {
		root = t.TempDir()
	}
	d := &desk{t: t, installed: installed, dir: filepath.Join(root, "work"), home: filepath.Join(root, "home"), tmp: filepath.Join(root, "tmp")}
	for _, dir := range []string{d.dir, d.home, d.tmp} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d.model = modeltest.New(scripts(d)...)
	t.Cleanup(d.model.Close)
	return d
}

// read is a command that opens a file of the working directory; it makes the file.
func (d *desk) read(name string) string {
	d.t.Helper()
	file := filepath.Join(d.dir, name)
	if err := os.WriteFile(file, []byte("this is "+name+"\n"), 0o644); err != nil {
		d.t.Fatal(err)
	}
	return "cat " + file
}

func (d *desk) fill(text string) string {
	return strings.NewReplacer("{url}", d.model.URL(), "{dir}", d.dir, "{home}", d.home, "{agents}", d.installed).Replace(text)
}

// settle writes the files of the agents into the home.
func (d *desk) settle(agents ...realAgent) {
	d.t.Helper()
	for _, a := range agents {
		for name, text := range a.files {
			file := filepath.Join(d.home, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				d.t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(d.fill(text)), 0o644); err != nil {
				d.t.Fatal(err)
			}
		}
	}
}

// bin is where the agents' commands are.
func (d *desk) bin() string { return filepath.Join(d.installed, "node_modules", ".bin") }

// environment is all that an agent gets: nothing of whoever runs the tests.
func (d *desk) environment(agents ...realAgent) []string {
	env := []string{
		"HOME=" + d.home, "TMPDIR=" + d.tmp, "PATH=" + d.bin() + ":/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8",
		"SHELL=/bin/bash", "TERM=dumb", "NO_PROXY=127.0.0.1,localhost",
		"SHEETBEND_HOOK_WAIT=4s",   // these tests are about what a hook marks, not how fast it is on a loaded machine
		"GORACE=atexit_sleep_ms=0", // or each hook takes a second, built with the race detector
	}
	for _, a := range agents {
		for _, pair := range a.env {
			env = append(env, d.fill(pair))
		}
	}
	return env
}

// open gives the desk to a user, and makes the agents reachable for him: caches of root are not.
func (d *desk) open(name string) {
	d.t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		d.t.Fatal(err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		d.t.Fatal(err)
	}
	root := filepath.Dir(d.dir)
	agents := filepath.Join(root, "agents")
	err = filepath.WalkDir(root, func(file string, _ fs.DirEntry, err error) error { return errors.Join(err, os.Lchown(file, uid, -1)) })
	if err := errors.Join(err, os.Mkdir(agents, 0o755), unix.Mount(d.installed, agents, "", unix.MS_BIND, "")); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = unix.Unmount(agents, unix.MNT_DETACH) })
	d.installed = agents
	for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			d.t.Fatal(err)
		}
	}
}

// command is the agent's command line for a script.
func (a realAgent) commandLine(script string, free bool) []string {
	args := slices.Concat([]string{a.command}, a.args)
	if free {
		// Of options given twice, codex wants the last one only.
		for _, f := range a.free {
			if i := slices.Index(args, f); i >= 0 && strings.HasPrefix(f, "-") {
				args = slices.Delete(args, i, i+2)
			}
		}
		args = append(args, a.free...)
	}
	return append(args, modeltest.Prompt(script))
}

// unfolded are flags with which each file is told by itself, as tests ask for.
func (d *desk) unfolded(flags []string) []string {
	d.t.Helper()
	text := []byte("fold: {files: 1048576, call_files: 1048576, creates: 1048576, trees: false}\n")
	if i := slices.Index(flags, "--config"); i >= 0 {
		own, err := os.ReadFile(d.fill(flags[i+1]))
		if err != nil {
			d.t.Fatal(err)
		}
		text = append(own, text...)
		flags = slices.Delete(slices.Clone(flags), i, i+2)
	}
	file := filepath.Join(d.t.TempDir(), "sheetbend.yaml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		d.t.Fatal(err)
	}
	return append([]string{"--config", file}, flags...)
}

// run runs an agent under sheetbend, at this desk, and gives what came on standard error: its
// words and the tree. All has to end well.
func (d *desk) run(flags, commandLine []string, agents ...realAgent) string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	args := slices.Concat([]string{"run", "--leftovers", "wait"}, d.unfolded(flags), []string{"--"}, commandLine)
	for i := range args {
		args[i] = d.fill(args[i])
	}
	cmd := exec.CommandContext(ctx, os.Getenv(binEnv), args...)
	cmd.Env, cmd.Dir = append(d.environment(agents...), d.env...), d.dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	d.t.Cleanup(func() {
		if d.t.Failed() {
			d.t.Logf("%v\nstandard output: %s\nstandard error: %s\nthe model was asked %q, and could not answer %q",
				err, &stdout, &stderr, d.model.Requests(), d.model.Errors())
		}
	})
	if err != nil || len(d.model.Errors()) > 0 {
		d.t.FailNow()
	}
	return stderr.String()
}

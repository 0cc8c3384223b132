// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/enrich/marker/hook"
)

const held = "s3cret"

// A place is a user's directory, and one of root's with a file, of which the kernel tells what is opened or changed.
type place struct {
	t       *testing.T
	dir     string // the user's
	private string // root's, closed to others
	secret  string // root's file, in an open directory
	hidden  string // root's file, readable but for the directory
	link    string // the user's, to secret
	own     string // the user's file
	root    *os.File
	watch   int
	stdin   *os.File
}

func newPlace(t *testing.T) *place {
	t.Helper()
	_, dir := another(t)
	p := &place{t: t, dir: dir, private: filepath.Join(t.TempDir(), "private")}
	open := filepath.Join(dir, "open")
	p.secret, p.hidden = filepath.Join(open, "secret"), filepath.Join(p.private, "hidden")
	p.link, p.own = filepath.Join(dir, "link"), filepath.Join(dir, "own")
	text := []byte(held + ": '" + held + "'\n")
	err := errors.Join(os.Mkdir(open, 0o755), os.Mkdir(p.private, 0o700), os.WriteFile(p.secret, text, 0o600), os.WriteFile(p.hidden, text, 0o644),
		os.Symlink(p.secret, p.link), os.WriteFile(p.own, []byte("mine: 1\n"), 0o644), os.Chmod(dir, 0o755))
	if err != nil {
		t.Fatal(err)
	}
	if p.root, err = os.OpenFile(p.secret, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.root.Close() })
	p.stdin = p.root
	if p.watch, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p.watch) })
	for _, name := range []string{p.secret, p.private} {
		if _, err := unix.InotifyAddWatch(p.watch, name, unix.IN_ALL_EVENTS); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *place) config(text string) string {
	p.t.Helper()
	name := filepath.Join(p.dir, "config.yaml")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	return name
}

// run is sheetbend of a user who called sudo. Nothing of root's may be opened, changed or shown by it.
func (p *place) run(env []string, says string, args ...string) {
	p.t.Helper()
	for i := range args {
		if args[i] == "CONFIG" {
			args[i] = p.config("sandboxes: [{agents: ['*']}]\n")
		}
		if args[i] == "CAPTURE" {
			args[i] = p.capture()
		}
	}
	cmd := sheetbend(p.t, args...)
	cmd.Env = append(asCaller(cmd.Env), env...)
	cmd.Stdin, cmd.ExtraFiles = p.stdin, []*os.File{p.root}
	cmd.Dir = "/"
	r := finish(p.t, cmd)
	if !strings.Contains(r.stdout+r.stderr, says) {
		p.t.Errorf("%q: want %q: %s", args, says, describeResult(r))
	}
	if strings.Contains(r.stdout+r.stderr, held) {
		p.t.Errorf("%q shows what root's file holds: %s", args, describeResult(r))
	}
	if n, err := unix.Read(p.watch, make([]byte, 4096)); n > 0 {
		p.t.Errorf("%q opened or changed what is root's: %s", args, describeResult(r))
	} else if !errors.Is(err, unix.EAGAIN) {
		p.t.Fatal(err)
	}
}

const denied = "permission denied"

// readable are the names by which a user may try to have root's file read.
func (p *place) readable() []string {
	return []string{p.secret, p.hidden, p.link, "/proc/self/fd/0", "/dev/stdin", "/dev/fd/3", fmt.Sprintf("/proc/%d/root%s", os.Getpid(), p.own), "/proc/self/maps", "/proc/thread-self/environ"}
}

// reads tries args with each of them in the place of "@".
func reads(args ...string) func(*place) {
	return func(p *place) {
		for _, name := range p.readable() {
			p.run(nil, denied, at(args, name)...)
		}
	}
}

// writes tries args with files to make and to change.
func writes(says string, args ...string) func(*place) {
	return func(p *place) {
		with := func(name, says string) {
			p.run(nil, says, at(args, name)...)
		}
		with(p.private+"/new", says)
		with(p.hidden, says)
		with(p.secret, says)
		with(p.link, "symbolic link")
		with("/dev/fd/3", "symbolic link")
		with("/proc/self/mem", says)
	}
}

// connects tries args with a socket that only root may connect to.
func connects(says string, args ...string) func(*place) {
	return func(p *place) {
		path := filepath.Join(p.dir, "s")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			p.t.Fatal(err)
		}
		defer l.Close()
		if err := os.Chmod(path, 0o600); err != nil {
			p.t.Fatal(err)
		}
		a := at(args, path)
		p.run([]string{"SHEETBEND_SOCKET=" + path}, says, a...)
		_ = l.SetDeadline(time.Now().Add(100 * time.Millisecond)) // what has connected waits already
		if conn, err := l.Accept(); err == nil {
			_ = conn.Close()
			p.t.Errorf("%q connected as root", a)
		}
	}
}

// spools tries a command with directories of root.
func spools(args ...string) func(*place) {
	return func(p *place) {
		link := filepath.Join(p.dir, "spool")
		if err := os.Symlink(p.private, link); err != nil {
			p.t.Fatal(err)
		}
		for _, dir := range []string{p.private, link, fmt.Sprintf("/proc/%d/root%s", os.Getpid(), p.dir)} {
			p.run(nil, denied, append(append([]string{"spool"}, args...), "--path", dir)...)
		}
	}
}

// settingsFiles tries to change an agent's settings, and to make new ones.
func settingsFiles(what string) func(*place) {
	return func(p *place) {
		for _, name := range append(p.readable(), p.private+"/new", p.private+"/new/new") {
			p.run(nil, "another", "hook", what, "claude-code", "--yes", "--file", name)
		}
	}
}

func (p *place) capture() string {
	p.t.Helper()
	cc, err := collectorConfig(config.Default(), os.Getenv, false, slog.New(slog.DiscardHandler))
	if err != nil {
		p.t.Fatal(err)
	}
	name := filepath.Join(p.dir, "capture")
	c, err := createCapture(identity{}, name, cc)
	if err == nil {
		err = errors.Join(c.close(), os.Chmod(name, 0o644))
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return name
}

func at(args []string, name string) []string {
	out := slices.Clone(args)
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], "@", name)
	}
	return out
}

// pathFlags are all flags that name a file, by command.
var pathFlags = map[string]func(*place){
	"run --config":        reads("run", "--config", "@", "--", "true"),
	"run --output":        writes(denied, "run", "--output", "@", "--", "true"),
	"run --record":        writes(denied, "run", "--record", "@", "--", "true"),
	"run --otlp-endpoint": connects("not delivered", "run", "-q", "--otlp-endpoint", "unix://@", "--", "true"),
	"record --config": func(p *place) {
		reads("record", "--output", p.dir+"/c", "--config", "@")(p)
		reads("record", "--output", p.dir+"/c", "--config", "@", "--", "true")(p)
	},
	"record --output": func(p *place) {
		writes(denied, "record", "--output", "@", "--config", "CONFIG")(p)
		writes(denied, "record", "--output", "@", "--", "true")(p)
	},
	"replay --output":        writes(denied, "replay", "--output", "@", "CAPTURE"),
	"replay --otlp-endpoint": connects("", "replay", "--otlp-endpoint", "unix://@", "CAPTURE"),
	"replay FILE":            reads("replay", "@"),
	"sensor --config":        reads("sensor", "--config", "@"),
	"sensor --output":        writes(denied, "sensor", "--config", "CONFIG", "--output", "@"),
	"sensor --otlp-endpoint": connects("for user another", "sensor", "--config", "CONFIG", "--otlp-endpoint", "unix://@"),
	"doctor --config":        reads("doctor", "--config", "@"),
	"unpin --config":         reads("unpin", "--config", "@"),
	"spool list --config":    reads("spool", "list", "--config", "@"),
	"spool export --config":  reads("spool", "export", "--config", "@"),
	"spool retry --config":   reads("spool", "retry", "--all", "--config", "@"),
	"spool drop --config":    reads("spool", "drop", "--all", "--config", "@"),
	"spool list --path":      spools("list"),
	"spool export --path":    spools("export"),
	"spool retry --path":     spools("retry", "--all"),
	"spool drop --path":      spools("drop", "--all"),
	"hook install --file":    settingsFiles("install"),
	"hook uninstall --file":  settingsFiles("uninstall"),
	"call begin --socket":    connects(denied, "call", "begin", "--call", "c", "--socket", "@"),
	"call end --socket":      connects(denied, "call", "end", "--call", "c", "--socket", "@"),
	"sessions --socket":      connects(denied, "sessions", "--socket", "@"),
	"session --socket":       connects(denied, "session", "x", "--socket", "@"),
	"sessions rm --socket":   connects(denied, "sessions", "rm", "x", "--socket", "@"),
	"story --socket":         connects(denied, "story", "--socket", "@"),
	"tree --socket":          connects(denied, "tree", "x", "--socket", "@"),
	"export --socket":        connects(denied, "export", "x", "--socket", "@"),
	"report --socket":        connects(denied, "report", "x", "--socket", "@"),
	"report --output":        writes(denied, "report", "CAPTURE", "--force", "--output", "@"),
	"report FILE":            reads("report", "@", "--output", "-"),
	"story FILE":             reads("story", "@"),
	"tree FILE":              reads("tree", "@", "c"),
	"export FILE":            reads("export", "@"),
}

// otherFlags hold text that names no file.
var otherFlags = []string{"agent", "agent-version", "otlp-protocol", "color", "leftovers", "log-format", "log-level", "open-hook", "session", "span-names", "user", "call", "tool", "traceparent",
	"cgroup"} // a cgroup is looked up by the sensor, for root alone

func TestEachFlagThatNamesAFileHasARowHere(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
		if !cmd.Runnable() || cmd.HasSubCommands() {
			return
		}
		cmd.InheritedFlags() // merges them
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			name := strings.TrimPrefix(cmd.CommandPath(), "sheetbend ") + " --" + f.Name
			if f.Value.Type() == "string" && pathFlags[name] == nil && !slices.Contains(otherFlags, f.Name) {
				t.Errorf("%s: say in this file whether it names a file", name)
			}
		})
	}
	walk(newRoot())
}

func TestWhatACallerNamesByAFlagIsOpenedWithTheCallersRights(t *testing.T) {
	t.Parallel()
	for name, try := range pathFlags {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try(newPlace(t))
		})
	}
}

// A keyRow is a configuration that names the file "@", and what is said when each of the commands is given it.
type keyRow struct {
	config, says string
	commands     []string
}

// pathKeys are all keys of the configuration that name a file.
var pathKeys = map[string]keyRow{
	"exporters.otlp.endpoint":     {"exporters: {otlp: {endpoint: 'unix://@'}}", "for user another", []string{"sensor"}},
	"exporters.otlp.headers_file": {"exporters: {otlp: {endpoint: 'http://127.0.0.1:9', headers_file: '@'}}", denied, []string{"run", "sensor"}},
	"exporters.otlp.tls.ca":       {"exporters: {otlp: {endpoint: 'https://127.0.0.1:9', tls: {ca: '@'}}}", denied, []string{"run", "sensor", "doctor"}},
	"exporters.otlp.tls.cert":     {"exporters: {otlp: {endpoint: 'https://127.0.0.1:9', tls: {cert: '@', key: /dev/null}}}", denied, []string{"run", "sensor", "doctor"}},
	"exporters.otlp.tls.key":      {"exporters: {otlp: {endpoint: 'https://127.0.0.1:9', tls: {cert: OWN, key: '@'}}}", denied, []string{"run", "sensor", "doctor"}},
	"exporters.file.path":         {"exporters: {file: {path: '@'}}", "user another", []string{"run", "sensor"}},
	"spool.path":                  {"exporters: {otlp: {endpoint: 'http://127.0.0.1:9'}}\nspool: {path: '@'}", "", []string{"run", "spool", "sensor", "record", "unpin"}},
	"recorder.path":               {"recorder: {path: '@'}", "recorder.path", []string{"run", "sensor", "record", "unpin"}},
	"intake.unix":                 {"intake: {unix: '@'}", "sets intake.unix", []string{"sensor", "record", "unpin"}},
	"containers.cri":              {"containers: {cri: [default, '@']}", "sets containers.cri", []string{"sensor", "record", "unpin"}},
	"containers.docker":           {"containers: {docker: ['@']}", "sets containers.docker", []string{"sensor", "record", "unpin"}},
	"containers.kubelet":          {"containers: {kubelet: '@'}", "sets containers.kubelet", []string{"sensor", "record", "unpin"}},
	"socket":                      {"socket: '@'", "sets socket", []string{"sensor", "record", "unpin"}},
	"journal":                     {"journal: '@'", "sets journal", []string{"sensor", "record", "unpin"}},
	"pin_path":                    {"pin_path: '@'", "", []string{"sensor", "record", "unpin", "doctor"}},
}

// otherKeys hold text that names no file that is opened; those of agents name files of what is watched.
var otherKeys = []string{"sandboxes", "agents", "exporters.otlp.headers", "exporters.otlp.protocol", "exporters.otlp.compression", "exporters.otlp.tls.server_name", "exporters.otlp_mode", "spool.sync", "spool.passed_on", "metrics.listen",
	"intake.listen", "noise", "sensitive", "workspace.ignore", "workspace.never", "exporters.otlp.signals", "trace.join", "span_names", "open_hook", "log.level", "log.format"}

func TestEachKeyThatNamesAFileHasARowHere(t *testing.T) {
	var walk func(reflect.Type, string)
	walk = func(typ reflect.Type, at string) {
		if _, ok := pathKeys[at]; ok || slices.Contains(otherKeys, at) {
			return
		}
		switch typ.Kind() {
		case reflect.Struct:
			for f := range typ.Fields() {
				walk(f.Type, strings.TrimPrefix(at+"."+f.Tag.Get("yaml"), "."))
			}
		case reflect.Slice, reflect.Pointer:
			walk(typ.Elem(), at)
		case reflect.String, reflect.Map:
			t.Errorf("%s: say in this file whether it names a file", at)
		}
	}
	walk(reflect.TypeFor[config.Config](), "")
}

func TestWhatTheConfigurationOfACallerNamesIsOpenedWithTheCallersRights(t *testing.T) {
	t.Parallel()
	for key, row := range pathKeys {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			for _, name := range []string{p.secret, p.hidden, p.link, p.private, p.private + "/new", "/proc/self/fd/0"} {
				text := strings.NewReplacer("@", name, "OWN", p.own).Replace(row.config)
				file := p.config("sandboxes: [{agents: ['*']}]\n" + text + "\n")
				for _, c := range row.commands {
					args := map[string][]string{
						"run":    {"run", "-q", "--config", file, "--", "true"},
						"record": {"record", "--output", filepath.Join(p.dir, "capture"), "--config", file},
						"spool":  {"spool", "list", "--config", file},
						"doctor": {"doctor", "--json", "--config", file},
						"sensor": {"sensor", "--config", file}, "unpin": {"unpin", "--config", file},
					}[c]
					says := row.says
					if says == "" && c != "run" && c != "spool" && c != "doctor" {
						says = "sets " + key
					}
					p.run(nil, says, args...)
				}
			}
		})
	}
}

func TestWhatTheEnvironmentOfACallerNamesIsOpenedWithTheCallersRights(t *testing.T) {
	t.Parallel()
	// Its certificate is checked against those of the system.
	backend := httptest.NewUnstartedServer(nil)
	backend.Config.ErrorLog = log.New(io.Discard, "", 0)
	backend.EnableHTTP2 = true
	backend.StartTLS()
	t.Cleanup(backend.Close)
	run := []string{"run", "-q", "--otlp-endpoint", backend.URL, "--", "true"}
	for variable, row := range map[string]struct {
		says string
		args []string
	}{
		"OTEL_EXPORTER_OTLP_CERTIFICATE":               {denied, run},
		"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE":        {denied, run},
		"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE":        {denied, run},
		"OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE": {denied, run},
		"OTEL_EXPORTER_OTLP_CLIENT_KEY":                {"", run},
		"OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE":       {"", run},
		"SSL_CERT_FILE":                                {"unknown authority", run},
		"SSL_CERT_DIR":                                 {"unknown authority", run},
		"SHEETBEND_SOCKET":                             {"", []string{"sessions"}},
		"CLAUDE_CONFIG_DIR":                            {"another", []string{"hook", "install", "claude-code", "--yes"}},
		"CODEX_HOME":                                   {"another", []string{"hook", "install", "codex", "--yes"}},
	} {
		t.Run(variable, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			names := []string{p.secret, p.hidden, p.private, "/proc/self/fd/0"}
			switch {
			case variable == "SSL_CERT_DIR":
				names = names[2:3]
			case len(row.args) == len(run) && row.says != denied:
				names = names[:1] // it runs to the end, which takes seconds
			}
			for _, name := range names {
				env := []string{variable + "=" + name}
				if strings.Contains(variable, "CLIENT_CERT") {
					env = append(env, strings.Replace(variable, "CERTIFICATE", "KEY", 1)+"="+p.own)
				}
				p.run(env, row.says, row.args...)
			}
		})
	}
}

// The library of the commands has a variable of its own, for completion.
func TestCompletionWritesNoFileThatACallerNames(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for _, name := range []string{p.secret, p.private + "/new"} {
		p.run([]string{"BASH_COMP_DEBUG_FILE=" + name}, "unknown flag", "__complete", "run", "--no-such-flag", "x\ny", "")
	}
}

// Nothing of /proc is read, and no pipe waited for: what ends a command does not end the wait.
func TestHeadersAndCertificatesAreRegularFilesAndNotOfProc(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	pipe := filepath.Join(p.dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	to := "exporters: {otlp: {endpoint: 'http://127.0.0.1:9', headers_file: "
	for name, says := range map[string]string{"/proc/self/status": denied, "/proc/self/maps": denied, pipe: "no regular file"} {
		p.run(nil, says, "run", "-q", "--config", p.config(to+name+"}}\n"), "--", "true")
	}
	p.run([]string{"OTEL_EXPORTER_OTLP_CERTIFICATE=" + pipe}, "no regular file", "run", "-q", "--otlp-endpoint", "http://127.0.0.1:9", "--", "true")
}

// A configuration below /etc that only root can write names files of root: whoever may start a sensor with it may not
// read it into the bargain, nor have its credentials sent elsewhere.
func TestAConfigurationThatOnlyRootCanWriteNamesFilesOfRoot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir, err := os.MkdirTemp("/etc", "sheetbend-test-")
	if err != nil {
		t.Skip("no directory below /etc can be made: ", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file, headers := filepath.Join(dir, "sheetbend.yaml"), filepath.Join(dir, "headers")
	text := "sandboxes: [{agents: ['*']}]\nspool: {path: none}\nexporters: {otlp: {endpoint: 'http://127.0.0.1:9', headers_file: " + headers + "}}\n"
	err = errors.Join(os.Chmod(dir, 0o755), os.WriteFile(file, []byte(text), 0o644), os.WriteFile(headers, []byte("no header "+held+"\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	const reads = "OTLP headers in"
	for _, c := range []struct {
		name string
		env  string
		args []string
		mode os.FileMode
		says string
	}{
		{"as it is", "", []string{"sensor", "--config", file}, 0o644, reads},
		{"writable by others", "", []string{"sensor", "--config", file}, 0o664, denied},
		{"closed to the caller", "", []string{"sensor", "--config", file}, 0o600, denied},
		{"by another name", "", []string{"sensor", "--config", "/proc/self/root" + file}, 0o644, denied},
		{"with the caller's endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:8", []string{"sensor", "--config", file}, 0o644, denied},
		{"with the caller's certificates", "OTEL_EXPORTER_OTLP_CERTIFICATE=/dev/null", []string{"sensor", "--config", file}, 0o644, denied},
		{"of run", "", []string{"run", "--config", file, "--", "true"}, 0o644, denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.Chmod(file, c.mode); err != nil {
				t.Fatal(err)
			}
			cmd := sheetbend(t, c.args...)
			cmd.Env = append(asCaller(cmd.Env), c.env)
			r := finish(t, cmd)
			if r.code == 0 || !strings.Contains(r.stderr, c.says) || strings.Contains(r.stderr, held) {
				t.Error(describeResult(r))
			}
		})
	}
}

func TestAnAgentIsAskedForItsVersionAsTheCaller(t *testing.T) {
	t.Parallel()
	who, dir := another(t)
	script := "#!/bin/sh\ntest -z \"$(cat /dev/tty 2>/dev/null)\" && echo 2.0.$(id -u)\n"
	if err := os.WriteFile(filepath.Join(dir, "claude"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	who.path = dir + ":/usr/bin:/bin"
	got, program := agentVersion(hook.FindPlace("claude-code"), who)
	if got != "2.0.61001" || program != filepath.Join(dir, "claude") {
		t.Errorf("%q of %s", got, program)
	}
}

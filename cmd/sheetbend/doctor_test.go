// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/confine"
)

func TestTheDoctorTriesEveryHook(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := sheetbendRun(t, "doctor", "--json")
	var checks []check
	if err := json.Unmarshal([]byte(r.stdout), &checks); err != nil || r.code != 0 {
		t.Fatalf("%v: %s", err, describeResult(r))
	}
	names := map[string]check{}
	for _, c := range checks {
		names[c.Name] = c
		if c.Status == checkFail || c.Status == checkWarn && c.Advice == "" && !strings.HasPrefix(c.Name, "hook ") {
			t.Errorf("%+v", c)
		}
	}
	for _, name := range []string{"kernel", "BTF", "cgroup v2", "capabilities", "lockdown", "confinement", "clock", "OTLP", "hook process_exec", "hook connect4"} {
		if _, ok := names[name]; !ok {
			t.Errorf("%s is not checked", name)
		}
	}
	if _, call := names["hook open_call"]; !call {
		if _, trampoline := names["hook open_file"]; !trampoline {
			t.Error("no hook for opens")
		}
	}
	if c := names["trampolines"]; strings.Contains(c.Found, "tracepoint") {
		t.Errorf("suggests what is done already: %+v", c)
	}
	if r := sheetbendRun(t, "doctor"); r.code != 0 || !strings.Contains(r.stdout, "ok") {
		t.Error(describeResult(r))
	}
}

func TestAtLeast(t *testing.T) {
	for release, want := range map[string]bool{
		"5.10.0-32-cloud-amd64": true, "5.9.16": false, "4.19": false, "6.1.0": true, "10.0": true, "unreadable": true,
	} {
		if got := atLeast(release, 5, 10); got != want {
			t.Errorf("%s: %v", release, got)
		}
	}
}

func TestLockdown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lockdown")
	if c := checkLockdown(file); c.Status != checkOK {
		t.Errorf("without the file: %+v", c)
	}
	for text, want := range map[string]string{
		"[none] integrity confidentiality\n": checkOK, "none [integrity] confidentiality\n": checkOK, "none integrity [confidentiality]\n": checkFail,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c := checkLockdown(file); c.Status != want {
			t.Errorf("%s: %+v", text, c)
		}
	}
}

func TestSysAdminStandsForWhatLoadingNeeds(t *testing.T) {
	for _, c := range []struct {
		has  confine.Set
		want string
	}{
		{0, "CAP_NET_ADMIN,CAP_PERFMON,CAP_BPF"},
		{confine.Of(unix.CAP_SYS_ADMIN), "none"},
		{loading, "none"},
		{confine.Of(unix.CAP_NET_ADMIN, unix.CAP_BPF), "CAP_PERFMON"},
	} {
		if got := lacking(c.has).String(); got != c.want {
			t.Errorf("with %s: %s, want %s", c.has, got, c.want)
		}
	}
}

func TestTheDoctorNamesTheEndpoint(t *testing.T) {
	c := config.Default()
	env := map[string]string{}
	getenv := func(key string) string { return env[key] }
	if got := checkOTLP(c, identity{}, getenv); got.Status != checkOK || !strings.Contains(got.Found, "no endpoint") {
		t.Errorf("%+v", got)
	}
	env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:4317"
	if got := checkOTLP(c, identity{}, getenv); !strings.Contains(got.Found, "http://127.0.0.1:4317") {
		t.Errorf("%+v", got)
	}
	env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:4318"
	if got := checkOTLP(c, identity{}, getenv); !strings.Contains(got.Found, "http://127.0.0.1:4318/v1/traces over http/protobuf (the port is 4318)") {
		t.Errorf("%+v", got)
	}
	c.Exporters.OTLP[0].Endpoint = "ftp://x"
	if got := checkOTLP(c, identity{}, getenv); got.Status != checkFail || got.Advice == "" {
		t.Errorf("%+v", got)
	}
}

func TestWithSysAdminAloneEveryHookAttaches(t *testing.T) {
	t.Parallel()
	needRoot(t)
	const without = "-bpf,-perfmon,-net_admin"
	if r := behind(t, `exec setpriv --bounding-set `+without+` --inh-caps `+without+` "$0" doctor`); r.code != 0 || strings.Contains(r.stdout, "fail ") {
		t.Error(describeResult(r))
	}
}

func TestADoctorWithoutRightsSpeaksOfTheRightsOnly(t *testing.T) {
	t.Parallel()
	needRoot(t)
	cmd := sheetbend(t, "doctor")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	if r := finish(t, cmd); r.code != exitFailed || !strings.Contains(r.stdout, "sudo sheetbend doctor") || strings.Contains(r.stdout, "locked memory") {
		t.Error(describeResult(r))
	}
}

// behind runs a shell script in a mount namespace of its own; $0 is sheetbend.
func behind(t *testing.T, script string, args ...string) result {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := sheetbend(t)
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", script, self}, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	return finish(t, cmd)
}

func TestACgroupFileSystemThatCannotBeWrittenIsNamedWithWhatToDo(t *testing.T) {
	t.Parallel()
	m := needRoot(t)
	const readOnly = `mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 99; exec "$0" `
	says := "mount -o remount,rw " + m.Dir
	if r := behind(t, readOnly+"run -- true", m.Dir); r.code != exitSheetbend || !strings.Contains(r.stderr, says) || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("run does not say %q: %s", says, describeResult(r))
	}
	if r := behind(t, readOnly+"doctor", m.Dir); r.code != 0 || !strings.Contains(r.stdout, "warn  cgroup v2") || !strings.Contains(r.stdout, says) {
		t.Errorf("doctor does not say %q: %s", says, describeResult(r))
	}
	// Where the directory of all runs is there already, its owner needs no right to make it.
	if advice := adviceOnCgroups(m, &fs.PathError{Op: "mkdir", Err: unix.EACCES}); !strings.Contains(advice, "CAP_DAC_OVERRIDE") {
		t.Errorf("without the right to write: %q", advice)
	}
}

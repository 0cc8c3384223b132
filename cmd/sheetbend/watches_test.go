// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

// aUser runs commands through a sensor, without any rights.
type aUser struct {
	*aDaemon
	uid int
	dir string // of the user
}

// withUser starts a sensor, and makes a user whom no other test has.
func withUser(t *testing.T, uid int, more string) *aUser {
	t.Helper()
	d := startDaemon(t, more)
	for dir := filepath.Dir(d.socket); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := os.Chown(dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	return &aUser{d, uid, dir}
}

func (u *aUser) command(args ...string) *exec.Cmd {
	u.t.Helper()
	cmd := sheetbend(u.t, args...)
	cmd.Dir = u.dir
	cmd.Env = append(cmd.Env, client.EnvSocket+"="+u.socket, "HOME="+u.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.uid)}}
	return cmd
}

func (u *aUser) run(args ...string) result {
	u.t.Helper()
	return finish(u.t, u.command(args...))
}

// cgroups are those that the sensor has made for the user.
func (u *aUser) cgroups() (found []string) {
	m := needRoot(u.t)
	own, err := m.Of(os.Getpid())
	if err != nil {
		u.t.Fatal(err)
	}
	if own == "/" {
		own = rootWatches
	}
	names, err := m.Children(own)
	if err != nil {
		u.t.Fatal(err)
	}
	for _, name := range names {
		if uid, ok := watchOf(name); ok && int(uid) == u.uid {
			found = append(found, path.Join(own, name))
		}
	}
	return found
}

func (u *aUser) leavesNoCgroup() {
	u.t.Helper()
	sensortest.Until(u.t, "wait until the cgroups of the user are gone", func() bool { return len(u.cgroups()) == 0 })
}

// idsOf are the spans of a file of spans by their ids, all or those of the sandboxes that are given.
func (u *aUser) idsOf(file string, sandboxes map[string]bool) map[string]string {
	u.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		u.t.Fatal(err)
	}
	found := map[string]string{}
	for _, s := range parseSpans(u.t, text) {
		if id := attribute(s, span.KeySandboxID); sandboxes == nil || sandboxes[id] {
			found[fmt.Sprint(attribute(s, span.KeySeq))] = attribute(s, span.KeyEvent) + " " + attribute(s, span.KeyFilePath)
		}
	}
	return found
}

func (u *aUser) sandboxesOf(file string) map[string]bool {
	u.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		u.t.Fatal(err)
	}
	found := map[string]bool{}
	for _, s := range parseSpans(u.t, text) {
		found[attribute(s, span.KeySandboxID)] = true
	}
	return found
}

func TestAUserRunsACommandThroughTheSensorAndGetsAllItsSpans(t *testing.T) {
	t.Parallel()
	// The hold is long: what is not settled at the end would not come.
	u := withUser(t, 61001, "")
	out := filepath.Join(u.dir, "out.jsonl")
	r := u.run("run", "--follow", "--session", "nightly", "-o", out, "--", "sh", "-c",
		`echo x >made; cat made made >/dev/null; id -u; exit 3`)
	if r.code != 3 || r.stdout != "61001\n" {
		t.Fatal(describeResult(r))
	}
	for _, want := range []string{"session 'nightly of uid 61001'", "nothing lost", "3 programs (1 failed)", "exec     id -u", "created made"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("%q is not in the story: %s", want, r.stderr)
		}
	}
	u.leavesNoCgroup()
	u.end()
	sandboxes := u.sandboxesOf(out)
	if len(sandboxes) != 1 {
		t.Errorf("%d sandboxes", len(sandboxes))
	}
	got, want := u.idsOf(out, nil), u.idsOf(u.spans, sandboxes)
	if len(want) < 5 || !maps.Equal(got, want) {
		t.Errorf("the user has %v\nthe sensor %v", got, want)
	}
}

func TestTheStoryOfAUserDoesNotWaitForTheHold(t *testing.T) {
	t.Parallel()
	u := withUser(t, 61002, "call_retention: 1m\n")
	text, err := os.ReadFile(u.cmd.Args[len(u.cmd.Args)-1])
	if err != nil {
		t.Fatal(err)
	}
	u.end()
	longer := configFile(t, strings.Replace(string(text), "hold: 300ms", "hold: 1m", 1))
	u.cmd = sheetbend(t, "sensor", "--config", longer)
	u.log = sensortest.Start(t, u.cmd)
	u.log.Hear("watching")
	r := u.run("run", "--", "sh", "-c", "echo x >made; cat made >/dev/null")
	if r.code != 0 || !strings.Contains(r.stderr, "2 programs") || strings.Contains(r.stderr, "not all is shown") {
		t.Error(describeResult(r))
	}
}

func TestProgramsOfAnotherUserAreACount(t *testing.T) {
	t.Parallel()
	u := withUser(t, 61003, "")
	// A program of root's that changes the user, and a file that only that may read.
	cat, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program, secret := filepath.Join(dir, "setuid-cat"), filepath.Join(dir, "secret-name")
	if err := os.WriteFile(program, cat, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(program, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(u.dir, "out.jsonl")
	r := u.run("run", "--tree", "--follow", "-o", out, "--", "sh", "-c", program+" ../*/secret-name "+secret+"; cat /etc/hostname >/dev/null")
	if r.code != 0 || !strings.HasPrefix(r.stdout, "s") || !strings.Contains(r.stderr, "1 program of other users ran") {
		t.Fatal(describeResult(r))
	}
	u.leavesNoCgroup()
	u.end()
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range parseSpans(t, text) {
		if attribute(s, span.KeyFilePath) == secret || attribute(s, span.KeyExecutableName) == "setuid-cat" || attribute(s, span.KeyUserID) == "0" {
			t.Errorf("the user is told %v", s)
		}
	}
	if all := u.idsOf(u.spans, u.sandboxesOf(out)); !slices.Contains(slices.Collect(maps.Values(all)), "file.open "+secret) {
		t.Errorf("the sensor's own spans lack it: %v", all)
	}
}

func TestMoreCommandsThanAUserMayHaveWatchedAreRefusedInWords(t *testing.T) {
	t.Parallel()
	u := withUser(t, 61004, "watches: {max_per_user: 2}\n")
	var running []*exec.Cmd
	var inputs []io.Closer
	for range 2 {
		cmd := u.command("run", "-q", "--", "cat")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running, inputs = append(running, cmd), append(inputs, in)
	}
	sensortest.Until(t, "wait until both are watched", func() bool { return len(u.cgroups()) == 2 })
	made := filepath.Join(u.dir, "made")
	if r := u.run("run", "--", "touch", made); r.code != exitSheetbend || !strings.Contains(r.stderr, "2 commands of user 61004 are watched already") {
		t.Error(describeResult(r))
	}
	if _, err := os.Stat(made); err == nil {
		t.Error("a command that is not watched was run")
	}
	// Another user has places of their own.
	other := &aUser{u.aDaemon, 61005, "/"}
	if r := other.run("run", "-q", "--", "true"); r.code != 0 {
		t.Error(describeResult(r))
	}
	_ = inputs[0].Close()
	if err := running[0].Wait(); err != nil {
		t.Error(err)
	}
	sensortest.Until(t, "wait until one is over", func() bool { return len(u.cgroups()) == 1 })
	if r := u.run("run", "-q", "--", "touch", made); r.code != 0 {
		t.Error(describeResult(r))
	}
	_ = inputs[1].Close()
	if err := running[1].Wait(); err != nil {
		t.Error(err)
	}
	u.leavesNoCgroup()
}

func TestWhatIsWatchedAlreadyIsWatchedOnce(t *testing.T) {
	t.Parallel()
	u := withUser(t, 61006, "")
	out := filepath.Join(u.dir, "out.jsonl")
	r := u.run("run", "-o", out, "--", "sh", "-c", asCommand+`=1 /proc/$PPID/exe run -- sh -c "echo inner; exit 4"; echo $?`)
	if r.code != 0 || r.stdout != "inner\n4\n" || !strings.Contains(r.stderr, "is watched already") {
		t.Error(describeResult(r))
	}
	u.leavesNoCgroup()
	u.end()
	if found := u.sandboxesOf(u.spans); len(found) != 1 {
		t.Errorf("%d sandboxes: %v", len(found), found)
	}
}

func TestACommandOutlivesItsClientAndTheSensor(t *testing.T) {
	t.Parallel()
	u := withUser(t, 61007, "")
	for _, killed := range []string{"client", "sensor"} {
		fifo := filepath.Join(u.dir, killed)
		if err := unix.Mkfifo(fifo, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(fifo, 0o666); err != nil {
			t.Fatal(err)
		}
		after := filepath.Join(u.dir, killed+".after")
		cmd := u.command("run", "--", "sh", "-c", "read line <"+fifo+"; : >"+after+"; exit 5")
		stderr, err := os.Create(filepath.Join(u.dir, killed+".stderr")) // a pipe would be waited for
		if err != nil {
			t.Fatal(err)
		}
		defer stderr.Close()
		cmd.Stderr = stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go1, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits for the command
		if err != nil {
			t.Fatal(err)
		}
		if len(u.cgroups()) != 1 {
			t.Fatalf("cgroups: %q", u.cgroups())
		}
		switch killed {
		case "client":
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if len(u.cgroups()) != 1 {
				t.Error("the command is watched no longer")
			}
			_, _ = go1.WriteString("x\n")
		case "sensor":
			u.log.Kill()
			u.cmd = sheetbend(t, "sensor", "--config", u.cmd.Args[len(u.cmd.Args)-1])
			u.log = sensortest.Start(t, u.cmd)
			u.log.Hear("watching")
			_, _ = go1.WriteString("x\n")
			_ = cmd.Wait()
			text, _ := os.ReadFile(stderr.Name())
			if code := cmd.ProcessState.ExitCode(); code != 5 || !strings.Contains(string(text), "not all is shown: read what the sensor sees: it was cut off") {
				t.Errorf("exit code %d: %s", code, text)
			}
		}
		_ = go1.Close()
		u.leavesNoCgroup()
		sensortest.Until(t, "wait until the sensor has told of what the command did afterwards", func() bool {
			return slices.Contains(slices.Collect(maps.Values(u.idsOf(u.spans, nil))), "file.open "+after)
		})
	}
}

func TestWhatAUserCannotHaveIsSaidInWords(t *testing.T) {
	t.Parallel()
	u := withUser(t, 61008, "")
	for want, args := range map[string][]string{
		"a capture of the raw records takes that": {"run", "--record", "x.cap", "--", "true"},
		"--agent-telemetry takes that":            {"run", "--agent-telemetry", "--", "true"},
		"nowhere: command not found":              {"run", "--", "nowhere"},
		"cannot be executed":                      {"run", "--", "/etc/passwd"},
	} {
		if r := u.run(args...); r.code == 0 || !strings.Contains(r.stderr, want) || strings.Count(r.stderr, "\n") != 1 {
			t.Error(describeResult(r))
		}
	}
	u.socket = "/nonexistent/socket"
	if r := u.run("run", "--", "true"); r.code != exitSheetbend || !strings.Contains(r.stderr, "run needs root") ||
		!strings.Contains(r.stderr, "start the sensor") || strings.Count(r.stderr, "\n") != 1 {
		t.Error(describeResult(r))
	}
}

// The sensor needs no right over the files of others for it: where the user manages cgroups of his own, the command's is
// beside them.
func TestTheLimitsOfAUserHoldForWhatTheSensorWatches(t *testing.T) {
	t.Parallel()
	u := withUser(t, 61009, "")
	m := needRoot(t)
	above, err := m.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	managed := path.Join(above, fmt.Sprint("sheetbend-test-", os.Getpid(), "-managed"))
	if err := m.Create(managed); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := m.Remove(ctx, managed); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chown(filepath.Join(m.Dir, managed), u.uid, u.uid); err != nil {
		t.Fatal(err)
	}
	dir, err := m.Open(managed)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	want := above
	if want == "/" {
		want = rootWatches
	}
	for _, from := range []string{above, managed} {
		cmd := u.command("run", "-q", "--", "sh", "-c", "cat /proc/self/cgroup; cat /proc/$PPID/cgroup")
		if from == managed {
			cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
		}
		r := finish(t, cmd)
		var own []string
		for line := range strings.Lines(r.stdout) {
			if cg, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
				own = append(own, cg)
			}
		}
		if len(own) != 2 || path.Dir(own[0]) != want || own[1] != from ||
			!strings.HasPrefix(path.Base(own[0]), watchPrefix+strconv.Itoa(u.uid)) {
			t.Error(describeResult(r))
		}
		u.leavesNoCgroup()
	}
}

func TestACommandIsNotRunForWhichTheSensorHasNoRoom(t *testing.T) {
	t.Parallel()
	u := withUser(t, 61010, "limits: {cgroups: 16}\n")
	m := needRoot(t)
	for i := range 16 {
		below := path.Join(u.cgroup, strconv.Itoa(i))
		if err := m.Create(below); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := m.Remove(ctx, below); err != nil {
				t.Error(err)
			}
		})
	}
	r := u.run("run", "--", "echo", "it runs")
	if r.code != exitSheetbend || r.stdout != "" || !strings.Contains(r.stderr, "limits.cgroups") {
		t.Error(describeResult(r))
	}
	u.leavesNoCgroup()
}

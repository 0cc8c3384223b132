// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

const nobodyElse = 65533 // a user who has run nothing

// asUser runs sheetbend as another user.
func asUser(t *testing.T, uid uint32, args ...string) result {
	t.Helper()
	cmd := sheetbend(t, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return finish(t, cmd)
}

func TestASessionIsRecordedShownToWhoseItIsAndGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	m, cg := sensortest.Cgroup(t)
	if err := m.Create(cg + "/a"); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sheetbend-test-") // a test's own directory is for nobody else
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket, recordings := filepath.Join(dir, "api.sock"), filepath.Join(dir, "recordings")
	conf := configFile(t, fmt.Sprintf(`
sandboxes: [{cgroup: %s/a, session: rec-1, agent: tester}]
socket: %s
hold: 300ms
journal: none
recorder: {path: %s}
`, cg, socket, recordings))
	run := func(script string) {
		t.Helper()
		cmd := sensortest.Inside(t, m, cg+"/a", "sh", "-c", script)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 1000, Gid: 1000}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	start := func() *sensortest.Sensor {
		cmd := sheetbend(t, "sensor", "--no-pin", "--config", conf)
		log := sensortest.Start(t, cmd)
		log.Hear("watching")
		return log
	}
	recorded := func(file string) (found []sessionRow) {
		t.Helper()
		again := time.NewTicker(time.Second) // a question costs quota
		defer again.Stop()
		sensortest.Until(t, "the session is recorded", func() bool {
			<-again.C
			r := sheetbendRun(t, "sessions", "--socket", socket, "--json")
			found = nil
			return json.Unmarshal([]byte(r.stdout), &found) == nil && len(found) == 1 && len(found[0].Recordings) == 1 &&
				strings.Contains(sheetbendRun(t, "tree", "rec-1", "--socket", socket).stdout, file+"\n")
		})
		return found
	}
	log := start()
	run("cat /etc/hostname >/dev/null; :")
	first := recorded("read     /etc/hostname")[0].Recordings[0]
	if first.Session != "rec-1" || first.User == nil || *first.User != 1000 {
		t.Errorf("%+v", first)
	}
	log.End(unix.SIGTERM)

	// A part of the file that a kill left.
	name := filepath.Join(recordings, first.Name)
	st, err := os.Stat(name)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st, err)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("[*M\x18\x40\x00\x00\x00half a block")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}

	log = start()
	run("cat /etc/os-release >/dev/null; :")
	second := recorded("os-release")[0].Recordings[0]
	if second.Name != first.Name {
		t.Errorf("it goes on in %s, was in %s", second.Name, first.Name)
	}
	mine := []string{"--socket", socket}
	shows := func(r result, want ...string) {
		t.Helper()
		if r.code != 0 {
			t.Error(describeResult(r))
		}
		for _, w := range want {
			if !strings.Contains(r.stdout, w) {
				t.Errorf("%q is missing: %s", w, describeResult(r))
			}
		}
	}
	shows(asUser(t, 1000, append([]string{"tree", "rec"}, mine...)...), "/etc/hostname", "/etc/os-release")
	shows(asUser(t, 1000, append([]string{"sessions"}, mine...)...), "rec-1")
	shows(asUser(t, 1000, append([]string{"story"}, mine...)...))
	lines := asUser(t, 1000, append([]string{"export", "rec-1"}, mine...)...)
	spans := parseSpans(t, []byte(lines.stdout))
	if uint64(len(spans)) < second.Spans {
		t.Errorf("%d spans are exported, recorded are %d", len(spans), second.Spans)
	}
	// The same of files.
	exported := filepath.Join(dir, "spans.jsonl")
	if err := os.WriteFile(exported, []byte(lines.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := sheetbendRun(t, "tree", exported)
	shows(tree, "/etc/hostname", "/etc/os-release")
	if other := sheetbendRun(t, "tree", name); other.stdout != tree.stdout {
		t.Errorf("of the recording\n%sof its spans\n%s", other.stdout, tree.stdout)
	}
	// Whose they are not gets none, and who is in a sandbox; nobody but root removes one.
	refused := func(r result, says string) {
		t.Helper()
		if r.code == 0 || !strings.Contains(r.stderr, says) || strings.Contains(r.stdout, "rec-1") {
			t.Errorf("want %q: %s", says, describeResult(r))
		}
	}
	refused(asUser(t, nobodyElse, append([]string{"tree", "rec-1"}, mine...)...), "no recorded session")
	if r := asUser(t, nobodyElse, append([]string{"sessions", "--json"}, mine...)...); strings.TrimSpace(r.stdout) != "[]" {
		t.Error(describeResult(r))
	}
	other := client.New(socket)
	if _, err := other.Recording(t.Context(), "../"+first.Name); err == nil {
		t.Error("a path is taken for a name")
	}
	inside := sensortest.Inside(t, m, cg+"/a", "/proc/self/exe", "tree", "rec-1", "--socket", socket)
	inside.Env = []string{asCommand + "=1"}
	refused(finish(t, inside), "not shown to processes in a sandbox")
	refused(asUser(t, 1000, append([]string{"sessions", "rm", "rec-1"}, mine...)...), "only root")
	shows(sheetbendRun(t, "sessions", "rm", "rec-1", "--socket", socket))
	refused(sheetbendRun(t, "export", "rec-1", "--socket", socket), "no recorded session")
	if said := log.End(unix.SIGTERM); !strings.Contains(said, "half written") {
		t.Error(said)
	}
}

func TestARecorderWhoseDirectoryOthersMayEnterIsRefused(t *testing.T) {
	t.Parallel()
	_, cg := sensortest.Cgroup(t)
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	r := sheetbendRun(t, "sensor", "--no-pin", "--config", configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/a}]\nsocket: \"\"\nrecorder: {path: %s}\n", cg, open)))
	if r.code != exitFailed || !strings.Contains(r.stderr, "chmod 0700") {
		t.Error(describeResult(r))
	}
	// Where nobody has asked for it, the sensor goes on without.
	c := config.Default()
	c.Recorder.Path = open
	if rec, err := openRecorder(c, identity{}, true, slog.New(slog.DiscardHandler)); rec != nil || err != nil || c.Recorder.Dir() != "" {
		t.Error(rec, err)
	}
}

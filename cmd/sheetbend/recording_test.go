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

	"go.opentelemetry.io/collector/pdata/ptrace"
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

// A sensor is killed in the middle of its work, again and again: the recording has every program once, by what the
// journal gives the next sensor, and what is told twice is the same span.
func TestARecordingHasAllOfASensorThatIsKilled(t *testing.T) {
	t.Parallel()
	m, cg := sensortest.Cgroup(t)
	if err := m.Create(cg + "/a"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	recordings := filepath.Join(dir, "recordings")
	conf := configFile(t, fmt.Sprintf(`
sandboxes: [{cgroup: %s/a}]
pin_path: %s
journal: %s
recorder: {path: %s}
socket: ''
hold: 300ms
`, cg, mountBPFFS(t), filepath.Join(dir, "journal"), recordings))
	defer func() {
		if r := sheetbendRun(t, "unpin", "--config", conf); r.code != 0 {
			t.Error(describeResult(r))
		}
	}()
	recorded := func() map[string]ptrace.Span {
		files, err := filepath.Glob(filepath.Join(recordings, "*.zst"))
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, name := range files {
			text.WriteString(sheetbendRun(t, "export", name).stdout)
		}
		spans, _ := tolerant(t, []byte(text.String()))
		return spans
	}
	const kills, programs = 3, 150
	log := pinnedSensor(t, conf)
	log.Hear("msg=watching")
	for round := range kills {
		half := filepath.Join(dir, fmt.Sprint("half-", round))
		work := sensortest.Inside(t, m, cg+"/a", "sh", "-c", fmt.Sprintf(
			"i=0; while [ $i -lt %d ]; do /bin/true round-%d-$i; i=$((i+1)); [ $((i%%20)) != 0 ] || sleep 0.2; "+
				"[ $i != 100 ] || : >%s; done", programs, round, half))
		if err := work.Start(); err != nil {
			t.Fatal(err)
		}
		// By now a second has passed, and spans wait for their block to be written.
		sensortest.Until(t, "it is half done", func() bool { return present(half) })
		log.End(unix.SIGKILL)
		if round%2 == 0 {
			if err := work.Wait(); err != nil { // some happens while none runs
				t.Error(err)
			}
		}
		log = pinnedSensor(t, conf)
		log.Hear("msg=watching")
		if round%2 == 1 {
			if err := work.Wait(); err != nil {
				t.Error(err)
			}
		}
	}
	last := sensortest.Inside(t, m, cg+"/a", "sh", "-c", "exit 42")
	_ = last.Run()
	again := time.NewTicker(300 * time.Millisecond) // each look reads all of it
	defer again.Stop()
	sensortest.Until(t, "the last one is recorded", func() bool {
		<-again.C
		for _, s := range recorded() {
			if attribute(s, "process.exit.code") == "42" {
				return true
			}
		}
		return false
	})
	said := log.End(unix.SIGTERM)
	told := map[string]int{}
	for _, s := range recorded() {
		switch line := attribute(s, "process.command_line"); {
		case attribute(s, "sheetbend.event") == "sensor.loss":
			if attribute(s, "sheetbend.lost.kind") == "cgroup_attach" && attribute(s, "sheetbend.lost.cause") == "unassigned" {
				continue // of a process of another test, which moved it while no sensor ran
			}
			t.Errorf("lost: %v", s.Attributes().AsRaw())
		case attribute(s, "sheetbend.event") == "process.exec" && strings.HasPrefix(line, "/bin/true round-") &&
			attribute(s, "sheetbend.stand_in") == "":
			told[line]++
		}
	}
	for round := range kills {
		for i := range programs {
			if line := fmt.Sprintf("/bin/true round-%d-%d", round, i); told[line] != 1 {
				t.Fatalf("%s is recorded %d times, of %d programs %d are: %s", line, told[line], kills*programs, len(told), said)
			}
		}
	}
}

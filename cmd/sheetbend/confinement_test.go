// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/confine"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
)

// asCapable makes the test binary sheetbend with exactly these capabilities, as a container is started with.
const asCapable = "SHEETBEND_TEST_AS_CAPABLE"

// A capable says what it starts with.
type capable struct {
	Capabilities confine.Set
	// Tracefs: it is mounted where it usually is, as the host's is into a container. Otherwise it is nowhere.
	Tracefs bool
	// Namespace: of cgroups, as a container that is not privileged has.
	Namespace bool
	Args      []string
}

const tracefsDir = "/sys/kernel/tracing"

// beCapable does not return, unless something fails. It needs a mount namespace of its own.
func beCapable(text string) error {
	var c capable
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	for _, dir := range []string{"/sys/kernel/debug/tracing", "/sys/kernel/debug", tracefsDir} {
		for unix.Unmount(dir, unix.MNT_DETACH) == nil {
		}
	}
	if c.Tracefs {
		if err := unix.Mount("none", tracefsDir, "tracefs", 0, ""); err != nil {
			return fmt.Errorf("mount tracefs: %w", err)
		}
	}
	// Root gets by exec what its bounding set has.
	for n := 0; ; n++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0); err != nil {
			break
		}
		if c.Capabilities.Has(n) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err != nil {
			return err
		}
	}
	return unix.Exec("/proc/self/exe", append([]string{"sheetbend"}, c.Args...), append(os.Environ(), asCommand+"=1"))
}

// sheetbendWith is sheetbend with exactly these capabilities.
func sheetbendWith(t *testing.T, c capable) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := sheetbend(t)
	cmd.Env = append(slices.DeleteFunc(cmd.Env, func(s string) bool { return strings.HasPrefix(s, asCommand+"=") }), asCapable+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if c.Namespace {
		cmd.SysProcAttr.Unshareflags |= unix.CLONE_NEWCGROUP
	}
	return cmd
}

// threads are, of each thread of a process, the lines of its status that tell its rights.
func threads(t *testing.T, pid int) (all []string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			t.Fatal(err)
		}
		var of []string
		for line := range strings.Lines(string(text)) {
			for _, key := range []string{"CapPrm:", "CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:"} {
				if value, ok := strings.CutPrefix(line, key); ok {
					of = append(of, key+strings.TrimSpace(value))
				}
			}
		}
		all = append(all, strings.Join(of, " "))
	}
	if len(all) == 0 {
		t.Fatal("no threads")
	}
	return all
}

// mapsNeedBPF says whether this kernel asks for CAP_BPF at each look into a map: before 5.19 where bpf(2) is kept
// from others.
func mapsNeedBPF(t *testing.T) bool {
	t.Helper()
	err := confine.With(0, func() error {
		_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_MAP_LOOKUP_ELEM, 0, 0)
		return errno
	})
	return errors.Is(err, unix.EPERM)
}

// The tests of the sensor's other work run with the same confinement.
func TestTheSensorGivesUpWhatItNeedsNoLongerAndDoesItsWork(t *testing.T) {
	t.Parallel()
	m, cg := sensortest.Cgroup(t)
	if err := m.Create(cg + "/old"); err != nil {
		t.Fatal(err)
	}
	b, over, dir := serve(t), serve(t), t.TempDir()
	socket, spoolDir := filepath.Join(dir, "api.sock"), spoolFor(t)
	cmd := sheetbend(t, "sensor", "--config", configFile(t, fmt.Sprintf(
		"sandboxes: [{cgroup: %s/*, session: s}]\nsocket: %s\nspool: {path: %s}\nmetrics: {listen: '127.0.0.1:0'}\nexporters: {otlp: [{endpoint: 'http://%s'}, {endpoint: 'http://%s', protocol: http/protobuf}]}\npin_path: %s\n",
		cg, socket, spoolDir, b.addr, over.http, filepath.Join(mountBPFFS(t), "pins")))) // else it may look at the host's pins while another test's sensor does, and say so
	log := sensortest.Start(t, cmd)
	said := log.Hear("watching")
	keeps := confine.Set(0)
	if mapsNeedBPF(t) {
		keeps = confine.Of(unix.CAP_BPF)
	}
	if !strings.Contains(said, "msg=confined capabilities="+keeps.String()+" no_new_privs=true seccomp=true") {
		t.Errorf("told: %s", said)
	}
	rights := fmt.Sprintf("CapPrm:%016x CapEff:%016x CapBnd:0000000000000000 NoNewPrivs:1 Seccomp:2", uint64(keeps), uint64(keeps))
	if !strings.Contains(said, "endpoint=http://"+over.http+"/v1/traces protocol=http/protobuf because=configured") {
		t.Errorf("the protocol is not told: %s", said)
	}
	check := func(when string) {
		t.Helper()
		for _, s := range threads(t, cmd.Process.Pid) {
			if s != rights {
				t.Errorf("%s, a thread has %s, want %s", when, s, rights)
			}
		}
	}
	check("at the start")

	// All that comes after: a sandbox, a mark for it, a question, spans in the backend, batches on disk.
	if err := m.Create(cg + "/new"); err != nil {
		t.Fatal(err)
	}
	work := sensortest.Inside(t, m, cg+"/new", "sh", "-c", "read line; cat /etc/hostname; exit 9")
	stdin, err := work.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := work.Start(); err != nil {
		t.Fatal(err)
	}
	if r := sheetbendRun(t, "call", "begin", "--socket", socket, "--session", "h", "--call", "call_1", "--tool", "bash", "--pid", fmt.Sprint(work.Process.Pid)); r.code != 0 || r.stderr != "" {
		t.Error(describeResult(r))
	}
	if _, err := fmt.Fprintln(stdin, "go"); err != nil {
		t.Fatal(err)
	}
	_ = work.Wait()
	if r := sheetbendRun(t, "sessions", "--socket", socket, "--all"); r.code != 0 || r.stdout == "" {
		t.Error(describeResult(r))
	}
	sensortest.Until(t, "a span reaches the backend", func() bool { return b.has("process.exec") && over.has("process.exec") })
	check("at work")
	_, rest, _ := strings.Cut(said, `msg="serving metrics" listen=`)
	address, _, _ := strings.Cut(rest, "\n")
	scrape, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(scrape.Body)
	_ = scrape.Body.Close()
	if err != nil || !strings.Contains(string(text), `sheetbend_confined{capabilities="`+keeps.String()+`"`) {
		t.Errorf("%v: %s", err, text)
	}
	said = log.End(unix.SIGTERM)
	if code := cmd.ProcessState.ExitCode(); code != 0 || strings.Contains(said, "level=WARN") || strings.Contains(said, "level=ERROR") {
		t.Errorf("exit code %d: %s", code, said)
	}
	if !b.has("execute_tool bash") || !b.has("file.open") {
		t.Errorf("the backend has not all of it: %v", b.names())
	}
	if st, err := os.Stat(filepath.Join(spoolDir, "spool.db")); err != nil || st.Size() == 0 {
		t.Errorf("the spool: %v", err)
	}
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket is left")
	}
}

func TestAFileBelowTheRootOpensNoMoreThanItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	link := filepath.Join(dir, "link") // to nothing
	if err := os.Symlink("/headers.test", link); err != nil {
		t.Fatal(err)
	}
	real := filepath.Join(dir, "real")
	if err := os.WriteFile(real, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	led := filepath.Join(dir, "d", "led")
	if err := os.Mkdir(filepath.Dir(led), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, led); err != nil {
		t.Fatal(err)
	}
	dirs, alone := directories([]string{"/headers", "/../key", "", "/etc/ca.pem", link, led})
	if want := []string{"/etc", dir, filepath.Dir(led), dir}; !slices.Equal(dirs, want) {
		t.Errorf("directories %q, want %q", dirs, want)
	}
	if want := []string{"/headers", "/key"}; !slices.Equal(alone, want) {
		t.Errorf("files %q, want %q", alone, want)
	}
}

func TestConfinementCanBeLeftOut(t *testing.T) {
	t.Parallel()
	_, cg := sensortest.Cgroup(t)
	cmd := sheetbend(t, "sensor", "--no-confine", "--config", configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/*}]\nsocket: ''\nexporters: {file: {path: /dev/null}}\n", cg)))
	log := sensortest.Start(t, cmd)
	if said := log.Hear("watching"); !strings.Contains(said, "not confined") {
		t.Error(said)
	}
	for _, s := range threads(t, cmd.Process.Pid) {
		if !strings.Contains(s, "NoNewPrivs:0 Seccomp:0") {
			t.Errorf("a thread has %s", s)
		}
	}
	log.End(unix.SIGTERM)
}

// What the documentation lists (docs/security.md) is what is needed: with all of it the sensor works, without any of
// it something that is named does not.
func TestTheSensorNeedsExactlyTheCapabilitiesThatAreDocumented(t *testing.T) {
	t.Parallel()
	m, cg := sensortest.Cgroup(t)
	for _, c := range []string{"/a", "/sensor"} {
		if err := m.Create(cg + c); err != nil {
			t.Fatal(err)
		}
	}
	loading := loading
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	if !atLeast(unix.ByteSliceToString(uts.Release[:]), 5, 11) {
		loading |= confine.Of(unix.CAP_SYS_RESOURCE) // the limit on locked memory
	}
	start := func(t *testing.T, c capable, conf string) (r result, spans string) {
		t.Helper()
		spans = filepath.Join(t.TempDir(), "spans.jsonl")
		// Tracepoints, as they need most. Without pins: it would find those of another test.
		c.Args = []string{"sensor", "--no-pin", "--open-hook", "tracepoint", "--output", spans, "--config", configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/a}%s]\nsocket: ''\nhold: 300ms\n", cg, conf))}
		cmd := sheetbendWith(t, c)
		place, err := m.Open(cg + "/sensor")
		if err != nil {
			t.Fatal(err)
		}
		defer place.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(place.Fd())
		log := sensortest.Start(t, cmd)
		if log.Hears("msg=watching") {
			_ = sensortest.Inside(t, m, cg+"/a", "sh", "-c", "exit 7").Run()
		}
		r.stderr = log.End(unix.SIGTERM)
		r.code = cmd.ProcessState.ExitCode()
		return r, spans
	}
	works := func(t *testing.T, c capable, conf string) string {
		t.Helper()
		r, spans := start(t, c, conf)
		text, _ := os.ReadFile(spans)
		if r.code != 0 || !strings.Contains(string(text), "process.exec") {
			t.Fatalf("%s\n%s", describeResult(r), text)
		}
		return r.stderr
	}
	t.Run("all of them", func(t *testing.T) {
		if said := works(t, capable{Capabilities: loading, Tracefs: true}, ""); strings.Contains(said, "is missing: ") {
			t.Error(said)
		}
	})
	t.Run("all of them, in a cgroup namespace", func(t *testing.T) {
		if said := works(t, capable{Capabilities: loading, Tracefs: true, Namespace: true}, ""); !strings.Contains(said, "cgroup_mount="+m.Dir) {
			t.Error(said)
		}
	})
	for n := range 64 {
		if !loading.Has(n) {
			continue
		}
		name := confine.Of(n).String()
		t.Run("without "+name, func(t *testing.T) {
			r, _ := start(t, capable{Capabilities: loading &^ confine.Of(n), Tracefs: true}, "")
			if r.code != exitFailed || !strings.Contains(r.stderr, name) {
				t.Error(describeResult(r))
			}
		})
	}
	t.Run("without tracefs", func(t *testing.T) {
		r, _ := start(t, capable{Capabilities: loading}, "")
		if r.code != exitFailed || !strings.Contains(r.stderr, "mount -t tracefs") {
			t.Error(describeResult(r))
		}
	})
	t.Run("CAP_SYS_ADMIN in place of all", func(t *testing.T) {
		works(t, capable{Capabilities: confine.Of(unix.CAP_SYS_ADMIN)}, "")
	})
	t.Run("intake.listen, which needs no more", func(t *testing.T) {
		said := works(t, capable{Capabilities: loading, Tracefs: true}, "]\nintake: {listen: '127.0.0.1:0'}\nagents: [")
		if strings.Contains(said, " is missing: ") {
			t.Error(said)
		}
	})
	agents := ", {agents: [codex]}"
	t.Run("agents with CAP_DAC_READ_SEARCH", func(t *testing.T) {
		said := works(t, capable{Capabilities: loading | confine.Of(unix.CAP_DAC_READ_SEARCH), Tracefs: true}, agents)
		if strings.Contains(said, " is missing: ") || !strings.Contains(said, "CAP_DAC_READ_SEARCH") {
			t.Error(said)
		}
	})
	t.Run("agents without", func(t *testing.T) {
		if said := works(t, capable{Capabilities: loading, Tracefs: true}, agents); !strings.Contains(said, "CAP_DAC_READ_SEARCH is missing: ") {
			t.Error(said)
		}
	})
}

// The sensor that is confined as without it knows whose a connection over TCP is.
func TestTheSenderOfAnotherUserIsFoundInFullConfinement(t *testing.T) {
	t.Parallel()
	_, cg := sensortest.Cgroup(t)
	file, addr := filepath.Join(t.TempDir(), "capture"), nobody(t)
	conf := configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/*}]\nsocket: ''\nintake: {listen: '%s'}\n", cg, addr))
	cmd := sheetbendWith(t, capable{Capabilities: loading, Tracefs: true, Args: []string{"record", "--output", file, "--config", conf}})
	log := sensortest.Start(t, cmd)
	keeps := confine.Set(0)
	if mapsNeedBPF(t) {
		keeps = confine.Of(unix.CAP_BPF)
	}
	version, landlockErr := confine.LandlockVersion()
	unlocked := landlockErr != nil || version == 1
	if said := log.Hear("msg=watching"); !strings.Contains(said, "msg=confined capabilities="+keeps.String()+" ") || strings.Contains(said, " landlock=0") != unlocked {
		t.Error(said)
	}
	script := strings.Replace(reporting, "head -n 1 <&3", `read answer <&3; echo "$answer"`, 1)
	agent := exec.Command("bash", "-c", script)
	agent.Env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + addr}
	agent.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	agent.Dir = "/"
	r := finish(t, agent)
	if r.code != 0 || !strings.Contains(r.stdout, " 200 ") {
		t.Fatal(describeResult(r))
	}
	told := log.End(unix.SIGTERM)
	said, senders := facts(t, file)
	if len(said) != 1 || senders[0] != uint32(agent.Process.Pid) {
		t.Errorf("%+v from %v, not %d: %s", said, senders, agent.Process.Pid, told)
	}
}

// docs/security.md says of each attack which test shows it.
func TestTheTestsThatTheThreatModelNamesExist(t *testing.T) {
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	for _, name := range regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(string(text), -1) {
		missing[name[1]] = true
	}
	if len(missing) < 30 {
		t.Errorf("only %d tests are named", len(missing))
	}
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for name := range missing {
			if strings.Contains(string(source), "\nfunc "+name+"(") {
				delete(missing, name)
			}
		}
		return err
	})
	if err != nil || len(missing) > 0 {
		t.Errorf("%v: no test is named %v", err, slices.Sorted(maps.Keys(missing)))
	}
}

func TestTheManifestsHaveTheCapabilitiesThatLoadingNeeds(t *testing.T) {
	var want []string
	for _, name := range loading.Names() {
		want = append(want, strings.TrimPrefix(name, "CAP_"))
	}
	slices.Sort(want)
	for _, file := range []string{"kustomize-capabilities/capabilities.yaml", "helm/sheetbend/values.yaml"} {
		text, err := os.ReadFile("../../deploy/" + file)
		if err != nil {
			t.Fatal(err)
		}
		list := regexp.MustCompile(`(?m)^ *(?:add|capabilities): \[(.*)\]$`).FindSubmatch(text)
		if list == nil {
			t.Fatalf("%s has no list of capabilities", file)
		}
		got := strings.Split(string(list[1]), ", ")
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", file, got, want)
		}
	}
}

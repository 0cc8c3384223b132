// SPDX-License-Identifier: Apache-2.0

package marker

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/proc"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

// A stream takes what is injected.
type stream struct {
	mu     sync.Mutex
	events []record.Event
}

func (s *stream) inject(raw []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var e record.Event
	if e.Decode(raw) != nil {
		return false
	}
	s.events = append(s.events, e)
	return true
}

// last is the newest mark, and how many there are.
func (s *stream) last() (record.Event, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) == 0 {
		return record.Event{}, 0
	}
	return s.events[len(s.events)-1], len(s.events)
}

type view struct{}

func (view) List(uid uint32) []client.Session {
	return []client.Session{{ID: "of " + strconv.Itoa(int(uid))}}
}

func (view) Tree(_ uint32, id string) *client.Tree {
	if id != "s" {
		return nil
	}
	return &client.Tree{Session: client.Session{ID: id}, Roots: []client.Node{{Kind: "process.exec"}}}
}

const now = 1_000_000

// serve starts a server of its own for a test.
func serve(t *testing.T, change func(*Options)) (*Server, *stream) {
	t.Helper()
	to := &stream{}
	o := Options{
		Path: filepath.Join(t.TempDir(), "s.sock"), Inject: to.inject, View: view{},
		Clock:    func() (uint64, int64, error) { return now, 0, nil },
		CgroupID: func(cg string) (uint64, error) { return uint64(len(cg)), nil },
		CgroupOf: func(int) (string, error) { return "/agents/one", nil },
	}
	if change != nil {
		change(&o)
	}
	s, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	return s, to
}

// A line is a client that knows no rules.
type line struct {
	t    *testing.T
	conn *net.UnixConn
	in   *bufio.Reader
}

func dial(t *testing.T, s *Server) *line {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: s.o.Path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &line{t, conn, bufio.NewReader(conn)}
}

func (l *line) answer() client.Response {
	l.t.Helper()
	var r client.Response
	text, err := l.in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		l.t.Fatalf("%v: %q", err, text)
	}
	return r
}

func (l *line) ask(request string, fds ...int) client.Response {
	l.t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := l.conn.WriteMsgUnix([]byte(request+"\n"), oob, nil); err != nil {
		l.t.Fatal(err)
	}
	return l.answer()
}

func pidfd(t *testing.T, pid int) int {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// child is a process that runs until the test ends.
func child(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	return cmd
}

func ticks(t *testing.T, pid int) uint64 {
	t.Helper()
	start, err := proc.Start("/proc", uint32(pid))
	if err != nil {
		t.Fatal(err)
	}
	return start
}

func TestAMarkCarriesWhatWasSaidAndWhoTheKernelSaysSaidIt(t *testing.T) {
	s, to := serve(t, nil)
	shell := child(t)
	l := dial(t, s)
	const parent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
	r := l.ask(`{"op":"begin","session":"s","call":"c","tool":"bash","agent":"a","traceparent":"`+parent+`","new_key":[1]}`, pidfd(t, shell.Process.Pid))
	if !r.OK || r.Error != "" {
		t.Fatalf("%+v", r)
	}
	e, _ := to.last()
	h, own := e.Header, os.Getpid()
	if h.Time != now || h.Tgid != uint32(own) || h.Start != ticks(t, own) {
		t.Errorf("header %+v, want process %d", h, own)
	}
	m := e.Mark
	if m.PeerCgroup == 0 {
		t.Error("the peer's cgroup is not told")
	}
	m.PeerCgroup = 0
	if want := (record.Mark{
		Op: record.MarkBegin, Source: record.SourceAPI, UID: uint32(os.Geteuid()), Session: "s", Call: "c", Tool: "bash", Agent: "a", Traceparent: parent,
		TargetTgid: uint32(shell.Process.Pid), TargetStart: ticks(t, shell.Process.Pid),
	}); m != want {
		t.Errorf("%+v, want %+v", m, want)
	}
	// The number alone will do in the same pid namespace.
	if r := l.ask(`{"op":"end","call":"c","source":"hook","pid":` + strconv.Itoa(shell.Process.Pid) + `}`); !r.OK {
		t.Fatalf("%+v", r)
	}
	e, n := to.last()
	if n != 2 || e.Mark.Op != record.MarkEnd || e.Mark.Source != record.SourceHook || e.Mark.TargetTgid != uint32(shell.Process.Pid) {
		t.Errorf("%d marks, %+v", n, e.Mark)
	}
	if got := s.Stats(); got.Marks != 2 || got.Refused != 0 {
		t.Errorf("%+v", got)
	}
}

func TestAProcessThatHasEndedServesNoCall(t *testing.T) {
	s, to := serve(t, nil)
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd := pidfd(t, cmd.Process.Pid)
	_ = cmd.Wait()
	l := dial(t, s)
	if r := l.ask(`{"op":"begin","call":"c"}`, fd); r.OK || !strings.Contains(r.Error, "ended") {
		t.Errorf("%+v", r)
	}
	if r := l.ask(`{"op":"end","call":"c"}`, fd); !r.OK {
		t.Errorf("the call cannot be ended: %+v", r)
	}
	if e, n := to.last(); n != 1 || e.Mark.TargetTgid != 0 {
		t.Errorf("%d, %+v", n, e.Mark)
	}
}

func TestAnotherUsersProcessCannotBeNamedExceptByRoot(t *testing.T) {
	own := process{pid: os.Getpid(), uid: uint32(os.Geteuid())}
	if p, err := serves(own, own.pid, -1); err != nil || p.uid != own.uid || p.start != ticks(t, own.pid) {
		t.Errorf("%+v, %v", p, err)
	}
	other := process{pid: os.Getpid(), uid: 4242}
	if _, err := serves(other, own.pid, -1); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("%v", err)
	}
	if _, err := serves(process{pid: own.pid}, own.pid, pidfd(t, own.pid)); err != nil {
		t.Errorf("root: %v", err)
	}
}

func TestBadRequestsAreAnsweredAndTheNextOneIsServed(t *testing.T) {
	s, to := serve(t, nil)
	l := dial(t, s)
	for _, c := range []struct{ name, request, says string }{
		{"no JSON", `begin`, "not a JSON object"},
		{"nothing", ``, "not a JSON object"},
		{"a list", `[]`, "not a JSON object"},
		{"no op", `{"call":"c"}`, "op is missing"},
		{"an op of tomorrow", `{"op":"rename","call":"c"}`, "unknown op"},
		{"no call", `{"op":"begin","session":"s"}`, "call is missing"},
		{"no session", `{"op":"session"}`, "session is missing"},
		{"a string that is too long", `{"op":"begin","call":"` + strings.Repeat("x", 1025) + `"}`, "longer than 1024"},
		{"a NUL", `{"op":"begin","call":"a\u0000b"}`, "NUL"},
		{"a number for a string", `{"op":"begin","call":7}`, "not a JSON object"},
		{"a trace context of nothing", `{"op":"begin","call":"c","traceparent":"00-00000000000000000000000000000000-0000000000000000-01"}`, "W3C"},
		{"a negative pid", `{"op":"begin","call":"c","pid":-1}`, "out of range"},
		{"a pid that is none", `{"op":"begin","call":"c","pid":4194304}`, "ended"},
		{"a relative cgroup", `{"op":"begin","call":"c","cgroup":"a"}`, "slash"},
		{"a source of its own", `{"op":"begin","call":"c","source":"kernel"}`, "neither"},
		{"a session that is not there", `{"op":"session","session":"x"}`, "no session"},
	} {
		if r := l.ask(c.request); r.OK || !strings.Contains(r.Error, c.says) {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
	if r := l.ask(`{"op":"begin","call":"c"}`); !r.OK {
		t.Errorf("%+v", r)
	}
	if _, n := to.last(); n != 1 {
		t.Errorf("%d marks", n)
	}
}

func TestALineWithoutEndIsCutOff(t *testing.T) {
	s, _ := serve(t, nil)
	l := dial(t, s)
	go func() { _, _ = l.conn.Write([]byte(strings.Repeat("x", 2*client.MaxRequest))) }()
	if r := l.answer(); !strings.Contains(r.Error, "longer than") {
		t.Errorf("%+v", r)
	}
	if _, err := l.in.ReadByte(); err == nil {
		t.Error("the connection is still open")
	}
}

func TestANumberOfAnotherPidNamespaceIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root: makes a pid namespace")
	}
	peer := exec.Command("sleep", "600")
	peer.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if err := peer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = peer.Process.Kill()
		_ = peer.Wait()
	})
	from := process{pid: peer.Process.Pid}
	if _, err := serves(from, os.Getpid(), -1); err == nil || !strings.Contains(err.Error(), "another pid namespace") {
		t.Errorf("%v", err)
	}
	if _, err := serves(from, 0, pidfd(t, os.Getpid())); err != nil {
		t.Errorf("by a pidfd: %v", err)
	}
}

func TestAProcessThatInheritedTheSocketDoesNotSpeakForTheOneThatConnected(t *testing.T) {
	s, to := serve(t, nil)
	l := dial(t, s)
	file, err := l.conn.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command("sh", "-c", `echo '{"op":"begin","call":"c"}' >&3`)
	cmd.ExtraFiles = []*os.File{file}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if r := l.answer(); r.OK || !strings.Contains(r.Error, "another process") {
		t.Errorf("%+v", r)
	}
	if _, n := to.last(); n != 0 {
		t.Error("the mark was taken")
	}
}

func TestFileDescriptorsThatAreNoPidfdAreRefusedAndNotKept(t *testing.T) {
	s, _ := serve(t, nil)
	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	before := count()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		l := dial(t, s)
		if r := l.ask(`{"op":"begin","call":"c"}`, int(null.Fd())); !strings.Contains(r.Error, "no pidfd") {
			t.Errorf("%+v", r)
		}
		if r := l.ask(`{"op":"begin","call":"c"}`, int(null.Fd()), int(null.Fd())); !strings.Contains(r.Error, "more than one file") {
			t.Errorf("%+v", r)
		}
		_, _ = l.in.ReadByte() // until it is closed
		_ = l.conn.Close()
	}
	_ = null.Close()
	if after := count(); after > before+5 {
		t.Errorf("%d file descriptors became %d", before, after)
	}
}

func TestAPidfdBelongsToOneRequest(t *testing.T) {
	s, to := serve(t, nil)
	l := dial(t, s)
	r := l.ask(`{"op":"begin","call":"c"}`+"\n"+`{"op":"begin","call":"d"}`, pidfd(t, os.Getpid()))
	if _, n := to.last(); r.OK || !strings.Contains(r.Error, "wait for the answer") || n != 0 {
		t.Errorf("%+v, %d marks", r, n)
	}
}

func TestSessionsAreShownOutsideOfSandboxesOnly(t *testing.T) {
	s, _ := serve(t, nil)
	l := dial(t, s)
	if r := l.ask(`{"op":"sessions"}`); !r.OK || len(r.Sessions) != 1 || r.Sessions[0].ID != "of "+strconv.Itoa(os.Geteuid()) {
		t.Errorf("%+v", r)
	}
	if r := l.ask(`{"op":"session","session":"s"}`); !r.OK || r.Session == nil || len(r.Session.Roots) != 1 {
		t.Errorf("%+v", r)
	}
	s, to := serve(t, func(o *Options) { o.Sandbox = func(int, uint32, string) string { return "/x" } })
	l = dial(t, s)
	for _, request := range []string{`{"op":"sessions"}`, `{"op":"session","session":"s"}`, `{"op":"begin","call":"c","cgroup":"/x"}`} {
		if r := l.ask(request); r.OK || r.Error == "" || r.Session != nil || r.Sessions != nil {
			t.Errorf("%s: %+v", request, r)
		}
	}
	if r := l.ask(`{"op":"begin","call":"c"}`); !r.OK {
		t.Errorf("a mark from inside is for the collector to judge: %+v", r)
	}
	if _, n := to.last(); n != 1 {
		t.Errorf("%d marks", n)
	}
}

func TestTheAnswerCarriesTheVerdictExceptForAHook(t *testing.T) {
	const silent = "silent" // of this call the judge never says anything
	s, _ := serve(t, func(o *Options) {
		o.InjectForResult = func(raw []byte, verdict func(bool)) bool {
			var e record.Event
			if e.Decode(raw) != nil {
				return false
			}
			if e.Mark.Call != silent {
				go verdict(e.Mark.Call == "mine")
			}
			return true
		}
	})
	l := dial(t, s)
	if r := l.ask(`{"op":"begin","call":"mine"}`); !r.OK || !r.Judged {
		t.Errorf("%+v", r)
	}
	if r := l.ask(`{"op":"begin","call":"c"}`); r.OK || !strings.Contains(r.Error, "no effect") {
		t.Errorf("%+v", r)
	}
	if r := l.ask(`{"op":"begin","call":"c","source":"hook"}`); !r.OK || r.Judged {
		t.Errorf("%+v", r)
	}
	if r := l.ask(`{"op":"begin","call":"silent"}`); !r.OK || r.Judged {
		t.Errorf("a sensor that is far behind: %+v", r)
	}
}

func TestASensorThatCannotTakeAMarkSaysSo(t *testing.T) {
	s, _ := serve(t, func(o *Options) { o.Inject = func([]byte) bool { return false } })
	if r := dial(t, s).ask(`{"op":"begin","call":"c"}`); r.OK || !strings.Contains(r.Error, "not taken") {
		t.Errorf("%+v", r)
	}
}

func TestTheSocketIsForEveryoneAndGoesWithTheServer(t *testing.T) {
	s, _ := serve(t, nil)
	st, err := os.Stat(s.o.Path)
	if err != nil || st.Mode().Perm() != 0o666 {
		t.Fatalf("%v, %v", st, err)
	}
	l := dial(t, s)
	l.ask(`{"op":"x"}`)
	if _, err := Listen(s.o); err == nil || !strings.Contains(err.Error(), "another sensor") {
		t.Errorf("a second server: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.in.ReadByte(); err == nil {
		t.Error("a connection outlives the server")
	}
	names, err := os.ReadDir(filepath.Dir(s.o.Path))
	if err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

func TestAnAbandonedSocketIsReplacedAndAFileIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	_ = old.Close()
	s, _ := serve(t, func(o *Options) { o.Path = path })
	if r := dial(t, s).ask(`{"op":"begin","call":"c"}`); !r.OK {
		t.Errorf("%+v", r)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Options{Path: file}); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("%v", err)
	}
	if _, err := Listen(Options{Path: "/tmp/" + strings.Repeat("x", 120)}); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("%v", err)
	}
}

func TestTheBoundsOfTheClientAreThoseOfTheRecords(t *testing.T) {
	if client.MaxText != record.MaxText || client.SourceAPI != record.SourceAPI || client.SourceHook != record.SourceHook {
		t.Error("they differ")
	}
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(`{"op":"begin","session":"s","call":"c","pid":1,"traceparent":"00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"}`))
	f.Add([]byte(`{"op":"sessions"}`))
	f.Add([]byte("{\"op\":\"end\",\"call\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := decodeRequest(text)
		if err != nil {
			if !errors.Is(err, errRequest) {
				t.Errorf("%v is not said to be the client's fault", err)
			}
			return
		}
		for _, s := range []string{r.Session, r.Call, r.Tool, r.Agent, r.Traceparent, r.Cgroup} {
			if len(s) > client.MaxText || strings.ContainsRune(s, 0) {
				t.Errorf("%q", s)
			}
		}
		raw := record.AppendMark(nil, 1, 2, 3, record.Mark{Op: record.MarkBegin, Session: r.Session, Call: r.Call, Tool: r.Tool})
		var e record.Event
		if err := e.Decode(raw); err != nil {
			t.Error(err)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/bpf/workload"
	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/live"
	"github.com/sheetbend/sheetbend/collector/paths"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// These tests meet the kernel they run on: what the workload says it did is compared with the
// spans, exactly. They run natively and, unchanged, in guests (bpf/kerneltest).

// seen is a copy of a span.
type seen struct {
	span.Span
	attrs map[string]any
}

func (s *seen) text(key string) string { v, _ := s.attrs[key].(string); return v }
func (s *seen) number(key string) int  { v, _ := s.attrs[key].(int64); return int(v) }
func (s *seen) flag(key string) bool   { v, _ := s.attrs[key].(bool); return v }
func (s *seen) pid() int               { return s.number(span.KeyPID) }
func (s *seen) String() string {
	// What every span has in common stays out.
	own := maps.Clone(s.attrs)
	for _, key := range []string{span.KeyContract, span.KeySandboxID, span.KeyAgentName, span.KeyAttribution, span.KeyExecutableName, span.KeyCommandLine} {
		delete(own, key)
	}
	text := fmt.Sprintf("%s %x under %x %s %v", s.Kind, s.ID, s.Parent, s.Status, own)
	return text[:min(len(text), 1500)]
}

// recorder is a span.Sink that keeps everything, or nothing but a count.
type recorder struct {
	spans []*seen
	drop  bool
	opens int // counted in spans
}

func (r *recorder) Flush() {}
func (r *recorder) Span(s *span.Span) {
	if r.drop {
		r.count(s)
		return
	}
	c := &seen{Span: *s, attrs: map[string]any{}}
	c.Links = slices.Clone(s.Links)
	c.Attrs = nil
	for _, a := range s.Attrs {
		switch a.Kind {
		case span.StringAttr:
			c.attrs[a.Key] = a.Str
		case span.IntAttr:
			c.attrs[a.Key] = a.Int
		case span.BoolAttr:
			c.attrs[a.Key] = a.Int != 0
		case span.StringsAttr:
			c.attrs[a.Key] = slices.Clone(a.List)
		}
	}
	r.spans = append(r.spans, c)
}

// count counts the opens of files with the name of a flood.
func (r *recorder) count(s *span.Span) {
	if s.Kind != span.Open {
		return
	}
	flooded, n := false, 0
	for _, a := range s.Attrs {
		switch a.Key {
		case span.KeyFilePath:
			flooded = strings.Contains(a.Str, strings.ToValidUTF8(workload.FloodName, "\uFFFD"))
		case span.KeyCount:
			n = int(a.Int)
		}
	}
	if flooded {
		r.opens += max(n, 1)
	}
}

// stream is a live.Sink that keeps the records, as a capture does, or those of them that keep wants.
type stream struct {
	records [][]byte
	keep    func(raw []byte) bool
	told    chan record.Header // of processes that were there before; what nobody waits for is dropped
}

func (s *stream) Record(raw []byte) error {
	if s.keep != nil && !s.keep(raw) {
		return nil
	}
	s.records = append(s.records, bytes.Clone(raw))
	var e record.Event
	if err := e.Decode(raw); err == nil && e.Header.Type == record.TypeProcess {
		select {
		case s.told <- e.Header:
		default:
		}
	}
	return nil
}

// rig is a sensor that watches the cgroups below one of its own.
type rig struct {
	t        *testing.T
	mount    cgroup.Mount
	base     string // cgroup
	sensor   *bpf.Sensor
	close    func()
	finds    bool // agents by their names
	config   collector.Config
	spans    recorder
	raw      stream
	feed     *live.Feed
	stats    collector.Stats
	finish   func()
	sessions map[string][]*seen

	compatCalls bool
}

// newRig loads the sensor. Nothing is watched before start.
func newRig(t *testing.T, o bpf.Options) *rig {
	t.Helper()
	workloadtest.Root(t)
	m, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(m.Dir, "sheetbend-test-")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, mount: m, base: "/" + filepath.Base(dir), finds: len(o.Programs) > 0, compatCalls: o.CompatCalls}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := m.Remove(ctx, r.base); err != nil {
			t.Errorf("the test's cgroups are not empty: %v", err)
		}
	})
	o.CgroupRoot = m.Dir
	o.EnvNames = []string{workload.ListedVariable}
	if r.sensor, err = bpf.Load(o); err != nil {
		t.Fatalf("load the sensor: %v", err)
	}
	r.close = sync.OnceFunc(func() {
		if err := r.sensor.Close(); err != nil {
			t.Errorf("close the sensor: %v", err)
		}
	})
	t.Cleanup(r.close)
	return r
}

// unskipped repeats what it is given, with a rig for each time, until the kernel skipped no
// program, and returns the last rig. Linux 7.0 made programs on tracepoints preemptible ("tracing: Guard
// __DECLARE_TRACE() use of __DO_TRACE_CALL() with SRCU-fast"): while a preempted one waits for its CPU, the
// kernel skips all other runs of it there and counts them. The sensor tells of that as losses of the
// cause "missed"; the exact comparison needs a run without. No other loss is excused.
func unskipped(t *testing.T, o bpf.Options, run func(*rig)) *rig {
	t.Helper()
	const attempts = 6
	for i := 1; ; i++ {
		r := newRig(t, o)
		run(r)
		r.close()
		losses := r.losses()
		if len(losses) == 0 || i == attempts || slices.ContainsFunc(losses, func(l record.Loss) bool { return l.Cause != record.CauseMissed }) {
			return r
		}
		t.Logf("attempt %d: the kernel skipped programs: %v", i, losses)
	}
}

// start begins to watch; with read, it also begins to read.
func (r *rig) start() {
	r.t.Helper()
	r.config = collector.Config{
		BootID:    "kernel test",
		Sandboxes: []collector.Selector{{Cgroup: r.base + "/*", Session: "{name}", Agent: "workload"}},
		// The end of every process is told on its own process.exec, however slow the machine is.
		Hold:  time.Minute,
		Noise: []string{},
		Fold:  config.Fold{Creates: 1 << 20, Missing: 1 << 20}, // each file is told by itself
	}
	if r.finds {
		r.config.Sandboxes = append(r.config.Sandboxes, collector.Selector{Agents: []string{collector.AllAgents}})
	}
	c, err := collector.New(r.config, &r.spans)
	if err != nil {
		r.t.Fatal(err)
	}
	glob, err := cgroup.ParseGlob(r.base + "/*")
	if err != nil {
		r.t.Fatal(err)
	}
	o := live.Options{Source: r.sensor, Collector: c, Capture: &r.raw, Hierarchy: r.mount, Globs: cgroup.Globs{glob}}
	if r.finds {
		o.Knows = c.Lineage().Knows
	}
	r.feed = live.New(o)
	if err := r.feed.Start(); err != nil {
		r.t.Fatalf("start: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.finish = sync.OnceFunc(func() {
		cancel()
		if err := r.feed.Run(ctx); err != nil {
			r.t.Errorf("read: %v", err)
		}
		c.Close()
		r.stats = c.Stats()
	})
}

// read reads until stop.
func (r *rig) read() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.feed.Run(ctx) }()
	last := r.finish
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("read: %v", err)
		}
		last()
	})
	r.finish = stop
	r.t.Cleanup(stop)
}

// stop takes what is left in the ring; from then on the spans can be read.
func (r *rig) stop() {
	r.t.Helper()
	r.finish()
	r.sessions = map[string][]*seen{}
	for _, s := range r.spans.spans {
		r.sessions[s.Session] = append(r.sessions[s.Session], s)
	}
}

// losses are what the stream told of them.
func (r *rig) losses() (all []record.Loss) {
	var e record.Event
	for _, raw := range r.raw.records {
		if err := e.Decode(raw); err == nil && e.Header.Type == record.TypeLoss {
			all = append(all, e.Loss)
		}
	}
	return all
}

// changes are the records of changes. They keep their memory.
func (r *rig) changes() (all []record.Event) {
	for _, raw := range r.raw.records {
		var e record.Event
		if err := e.Decode(raw); err == nil && e.Header.Type == record.TypeChange {
			all = append(all, e)
		}
	}
	return all
}

// sandbox makes a cgroup and the attributes that start a process in it.
func (r *rig) sandbox(name string) *syscall.SysProcAttr {
	r.t.Helper()
	if err := r.mount.Create(r.base + "/" + name); err != nil {
		r.t.Fatal(err)
	}
	dir, err := r.mount.Open(r.base + "/" + name)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = dir.Close() })
	return &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
}

// allForms are the forms of this kernel's hooks. For a guest's kernel they are told, so that one that is lost is noticed.
func allForms(t *testing.T) (told []bpf.Form) {
	t.Helper()
	for form := range strings.FieldsSeq(os.Getenv("SHEETBEND_FORMS")) {
		told = append(told, bpf.Form(form))
	}
	if told != nil {
		return told
	}
	return forms(t)
}

// account compares facts with the spans of one session.
type account struct {
	t       *testing.T
	facts   []workload.Fact
	spans   []*seen
	changes []record.Event // of the session's processes and of others
	byCall  bool           // in the tracepoint form
}

func (a *account) of(kind span.Kind) (found []*seen) {
	for _, s := range a.spans {
		if s.Kind == kind {
			found = append(found, s)
		}
	}
	return found
}

// compare demands one span for each distinct fact, saying all that the fact says.
func (a *account) compare() {
	a.t.Helper()
	times := map[workload.Fact]int{}
	pids := map[int]int{} // with how often they are to have made a node
	for _, f := range a.facts {
		times[f]++
		pids[f.Pid] += 0
		if f.Kind == "change" && f.Op == "mknod" {
			pids[f.Pid]++
		}
	}
	for _, e := range a.changes {
		if _, ours := pids[int(e.Header.Tgid)]; ours && e.Change.Op == record.ChangeMknod {
			pids[int(e.Header.Tgid)]--
		}
	}
	for pid, n := range pids {
		if n != 0 && a.changes != nil {
			a.t.Errorf("process %d: the records have %d nodes too many: opens, binds and overlays make them, too", pid, -n)
		}
	}
	for f, n := range times {
		if f.Exchanged == "at most" {
			continue
		}
		if f.Kind == "change" {
			a.compareChange(f, n)
		}
		if f.Kind == "change" && f.Op != "rename" && f.Op != "exchange" {
			continue // one span may tell of several
		}
		var matches, near []*seen
		for _, s := range a.spans {
			if s.pid() != f.Pid || !slices.Contains(kindsOf(f), s.Kind) {
				continue
			}
			if wrong := difference(f, s); wrong == "" {
				matches = append(matches, s)
			} else if wrong != "other" {
				near = append(near, s)
				a.t.Logf("close, but %s: %v", wrong, s)
			}
		}
		if len(matches) != n {
			line, err := json.Marshal(f)
			if err != nil {
				a.t.Fatal(err)
			}
			a.t.Errorf("%d spans say what was done %d times: %s", len(matches), n, line)
			if len(near) == 0 {
				for _, s := range a.spans {
					if s.pid() == f.Pid && slices.Contains(kindsOf(f), s.Kind) {
						a.t.Logf("of that process: %v", s)
					}
				}
			}
		}
	}
}

// compareChange demands n records that say what the fact says.
func (a *account) compareChange(f workload.Fact, n int) {
	a.t.Helper()
	if f.ByCall && !a.byCall {
		n = 0
	}
	var near []string
	found := 0
	for i := range a.changes {
		e := &a.changes[i]
		if int(e.Header.Tgid) != f.Pid || e.Change.Op != changeOps[f.Op] {
			continue
		}
		if wrong := changeDifference(f, e); wrong != "" {
			near = append(near, wrong)
		} else {
			found++
		}
	}
	if found == n {
		return
	}
	line, err := json.Marshal(f)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Errorf("%d records say what was done %d times: %.1000s\n\t%s", found, n, line, strings.Join(near[:min(len(near), 5)], "\n\t"))
}

var changeOps = map[string]uint16{
	"rename": record.ChangeRename, "exchange": record.ChangeRename, "unlink": record.ChangeUnlink, "rmdir": record.ChangeRmdir,
	"mkdir": record.ChangeMkdir, "mknod": record.ChangeMknod, "link": record.ChangeLink, "symlink": record.ChangeSymlink,
	"truncate": record.ChangeTruncate, "chmod": record.ChangeChmod, "chown": record.ChangeChown, "setxattr": record.ChangeSetxattr,
	"removexattr": record.ChangeRemovexattr, "utimes": record.ChangeUtimes, "mount": record.ChangeMount, "umount": record.ChangeUmount,
	"move_mount": record.ChangeMoveMount, "pivot_root": record.ChangePivotRoot, "chroot": record.ChangeChroot,
}

// changeDifference says how a record differs from a fact about the same operation.
func changeDifference(f workload.Fact, e *record.Event) string {
	c, flags := &e.Change, e.Header.Flags
	code := ""
	if c.Error != 0 {
		code = unix.ErrnoName(syscall.Errno(c.Error))
	}
	type pair struct {
		what      string
		got, want any
	}
	old, name := f.Old, f.Path
	if flags&record.ChangeNamesFromUser != 0 {
		old, name = cmp.Or(f.OldRequested, old), cmp.Or(f.Requested, name)
	}
	path := changedName(&c.New, flags>>record.ChangeNewShift)
	if f.Errno == "ENAMETOOLONG" && flags>>record.ChangeNewShift&record.ChangeNameMissing != 0 {
		path = name // the kernel has no copy of it
	}
	pairs := []pair{
		{"path", path, name}, {"old path", changedName(&c.Old, flags), old},
		{"after", c.After, f.After}, {"text", string(c.Text), f.Text},
	}
	if f.Op != "rename" && f.Op != "exchange" {
		pairs = append(pairs, pair{"flags", c.Flags, f.Flags})
	}
	if f.Mode != 0 {
		pairs = append(pairs, pair{"mode", uint32(c.Mode), f.Mode})
	}
	if flags&record.ChangeSubmitted == 0 {
		pairs = append(pairs, pair{"error", code, f.Errno})
	}
	if !f.AnyInode && f.Errno == "" {
		// What the names stood for is gone when the call has returned.
		if flags&record.ChangeNamesFromUser == 0 {
			pairs = append(pairs, pair{"replaced", c.Replaced, f.Replaced})
		}
		if flags&record.ChangeNamesFromUser == 0 || c.Inode != 0 {
			pairs = append(pairs, pair{"inode", c.Inode, f.Inode})
		}
	}
	for _, p := range pairs {
		if p.got != p.want {
			return fmt.Sprintf("%s is %.200q, not %.200q (flags %#x)", p.what, fmt.Sprint(p.got), fmt.Sprint(p.want), flags)
		}
	}
	return ""
}

// changedName is the path of one side of a change; flags are those of that side.
func changedName(n *record.ChangedName, flags uint16) string {
	var name []byte
	if flags&record.ChangeBase != 0 {
		name = paths.AppendResolved(name, n.Dir, paths.Marks{Truncated: flags&record.ChangeTruncated != 0, Outside: flags&record.ChangeOutside != 0})
		if len(n.Name) > 0 {
			name = append(name, '/')
		}
	}
	name = append(name, n.Name...)
	if flags&record.ChangeBase != 0 {
		name = paths.Clean(name)
	}
	return strings.ToValidUTF8(string(name), "\uFFFD")
}

func kindsOf(f workload.Fact) []span.Kind {
	switch f.Kind {
	case "exec":
		return []span.Kind{span.Exec}
	case "open":
		return []span.Kind{span.Open}
	case "connect":
		return []span.Kind{span.Connect}
	case "listen":
		return []span.Kind{span.Listen}
	case "accept":
		return []span.Kind{span.Accept}
	case "close":
		return []span.Kind{span.Close}
	case "socket":
		return []span.Kind{span.Socket}
	case "namespace":
		return []span.Kind{span.Namespace}
	case "access":
		return []span.Kind{span.Access}
	case "change":
		return []span.Kind{span.Change}
	case "exec_refused":
		return []span.Kind{span.ExecRefused}
	case "end":
		return []span.Kind{span.Exec, span.Exit}
	}
	return nil
}

// difference says how a span differs from a fact of its kind: "" not at all, "other" when
// it is about something else.
func difference(f workload.Fact, s *seen) string {
	type pair struct {
		what      string
		got, want any
	}
	var identity, rest []pair
	switch f.Kind {
	case "exec":
		args, _ := s.attrs[span.KeyCommandArgs].([]string)
		if len(args) == 0 || args[0] != f.Arg0 {
			return "other"
		}
		rest = []pair{
			{"executable", s.text(span.KeyExecutablePath), f.Exe},
			{"argument count", s.number(span.KeyArgsCount), f.Argc},
			{"parent pid", s.number(span.KeyParentPID), f.Ppid},
			{"working directory", s.text(span.KeyWorkingDirectory), f.Cwd},
			{"user", s.number(span.KeyUserID), f.UID},
		}
		if f.Requested != "" {
			rest = append(rest, pair{"requested", s.text(span.KeyRequestedExecutable), f.Requested})
		}
	case "end":
		if s.flag(span.KeyReplaced) {
			return "other" // this program ended by another exec
		}
		rest = []pair{
			{"exit code", s.number(span.KeyExitCode), f.Code},
			{"signal", s.text(span.KeyExitSignal), signalName(f.Signal)},
			{"failed", s.Failed, f.Code != 0 || f.Signal != 0},
		}
	case "open":
		identity = []pair{{"path", s.text(span.KeyFilePath), f.Path}}
		rest = []pair{
			{"access", s.text(span.KeyFileAccess), f.Access},
			{"error", s.text(span.KeyErrorType), f.Errno},
			{"count", max(s.number(span.KeyCount), 1), max(f.Count, 1)},
		}
		if !f.AnyRequest {
			rest = append(rest, pair{"requested", s.text(span.KeyFileRequested), f.Requested})
		}
		if f.Tail != "" {
			identity = []pair{{"end of the path", strings.HasSuffix(s.text(span.KeyFilePath), f.Tail), true}}
			rest = append(rest, pair{"cut", s.flag(span.KeyFilePathTruncated), true})
		}
		if f.Inode != 0 {
			rest = append(rest, pair{"inode", s.text(span.KeyFileInode), fmt.Sprint(f.Inode)})
		}
	case "connect":
		address, requested := s.text(span.KeyPeerAddress), s.text(span.KeyPeerRequested)
		if f.Exchanged != "" && requested != "" {
			address = requested
		}
		if f.Exchanged == "both" && s.text(span.KeyTransport) == "" {
			f.Address, f.Transport = "", ""
		}
		identity = []pair{{"address", address, f.Address}, {"port", s.number(span.KeyPeerPort), f.Port}}
		if f.Requested != "" {
			identity = append(identity, pair{"requested", cmp.Or(requested, address), f.Requested})
		}
		rest = []pair{
			{"transport", s.text(span.KeyTransport), f.Transport},
			{"error", s.text(span.KeyErrorType), f.Errno},
			{"source route", s.flag(span.KeySourceRoute), f.SourceRoute},
		}
	case "socket":
		identity = []pair{
			{"family", s.text(span.KeySocketFamily), f.Family},
			{"type", s.text(span.KeySocketType), f.SockType},
			{"protocol", s.text(span.KeySocketProtocol), f.Protocol},
		}
		rest = []pair{{"error", s.text(span.KeyErrorType), f.Errno}, {"count", s.number(span.KeyCount), max(f.Count, 1)}}
	case "listen", "accept":
		identity = []pair{
			{"address", s.text(span.KeyLocalAddress), f.LocalAddress}, {"port", s.number(span.KeyLocalPort), f.LocalPort},
			{"peer", s.text(span.KeyPeerAddress), f.Address}, {"error", s.text(span.KeyErrorType), f.Errno},
		}
		rest = []pair{{"transport", s.text(span.KeyTransport), f.Transport}, {"count", s.number(span.KeyCount), max(f.Count, 1)}}
	case "close":
		identity = []pair{
			{"address", s.text(span.KeyLocalAddress), f.LocalAddress}, {"port", s.number(span.KeyLocalPort), f.LocalPort},
			{"peer", s.text(span.KeyPeerAddress), f.Address}, {"peer's port", s.number(span.KeyPeerPort), f.Port},
		}
		rest = []pair{
			{"operation", s.text(span.KeyNetworkOp), f.Op}, {"transport", s.text(span.KeyTransport), "tcp"},
			{"sent", s.number(span.KeyBytesSent), f.Sent}, {"received", s.number(span.KeyBytesReceived), f.Received},
			{"reason", s.text(span.KeyCloseReason), f.Reason}, {"error", s.text(span.KeyErrorType), f.Errno},
		}
	case "namespace":
		types, _ := s.attrs[span.KeyNamespaceTypes].([]string)
		identity = []pair{
			{"operation", s.text(span.KeyNamespaceOp), f.Op},
			{"types", strings.Join(types, ","), f.Types},
			{"error", s.text(span.KeyErrorType), f.Errno},
		}
		rest = []pair{{"count", s.number(span.KeyCount), max(f.Count, 1)}}
	case "access":
		identity = []pair{{"operation", s.text(span.KeyAccessOp), f.Op}, {"target", s.number(span.KeyAccessPID), f.Target}}
		rest = []pair{
			{"executable", s.text(span.KeyAccessExe), f.Exe},
			{"outside", s.flag(span.KeyAccessOutside), f.Outside},
			{"error", s.text(span.KeyErrorType), f.Errno},
			{"count", s.number(span.KeyCount), max(f.Count, 1)},
		}
		if f.Op == "signal" {
			identity = append(identity, pair{"signal", s.text(span.KeyAccessSignal), signalName(f.Signal)})
		}
	case "exec_refused":
		identity = []pair{{"path", s.text(span.KeyRequestedExecutable), f.Path}}
		rest = []pair{
			{"error", s.text(span.KeyErrorType), f.Errno},
			{"count", s.number(span.KeyCount), max(f.Count, 1)},
			{"failed", s.Failed, true},
		}
	case "change":
		identity = []pair{{"path", s.text(span.KeyFilePath), strings.ToValidUTF8(f.Path, "\uFFFD")}, {"old path", s.text(span.KeyFileOldPath), f.Old}}
		rest = []pair{{"operation", s.text(span.KeyFileOperation), f.Op}, {"error", s.text(span.KeyErrorType), f.Errno}}
		// What the names stood for is gone when the call has returned.
		if f.Errno == "" && !s.flag(span.KeyFileNameFromUser) {
			rest = append(rest, pair{"replaced", s.text(span.KeyFileReplaced), number(f.Replaced)}, pair{"inode", s.text(span.KeyFileInode), number(f.Inode)})
		}
	}
	for _, p := range identity {
		if p.got != p.want {
			return "other"
		}
	}
	for _, p := range rest {
		if p.got != p.want {
			return fmt.Sprintf("%s is %q, not %q", p.what, fmt.Sprint(p.got), fmt.Sprint(p.want))
		}
	}
	return ""
}

func number(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func signalName(n int) string {
	if n == 0 {
		return ""
	}
	return unix.SignalName(unix.Signal(n))
}

// lineage demands that every program hangs under the one that started it, and everything that a
// process did under the program it ran.
func (a *account) lineage(root int) {
	a.t.Helper()
	byID := map[span.ID]*seen{}
	for _, s := range a.spans {
		byID[s.ID] = s
	}
	forkers := map[int]int{}
	for _, f := range a.facts {
		if f.Forker != 0 {
			forkers[f.Pid] = f.Forker
		}
	}
	e := complaints{t: a.t}
	roots := 0
	for _, s := range a.spans {
		if s.Kind == span.Loss || s.flag(span.KeyStandIn) {
			continue
		}
		above := s.Above
		parent := byID[above]
		switch {
		case above == span.ID{}:
			roots++
			if s.pid() != root || s.Kind != span.Exec {
				e.add("a root that is not the first process: %v", s)
			}
		case parent == nil:
			e.add("the parent is not there: %v", s)
		case parent.Kind != span.Exec:
			e.add("the parent is no process: %v under %v", s, parent)
		case s.Parent != span.ID{} && s.Trace != parent.Trace && !standsIn(byID[s.Parent], s):
			e.add("the parent is in another trace: %v", s)
		case s.Kind == span.Exec:
			// Its own pid when it replaced the program, else that of who started it.
			want := s.number(span.KeyParentPID)
			if forker := forkers[s.pid()]; forker != 0 {
				want = forker
			}
			if p := parent.pid(); p != s.pid() && p != want {
				e.add("under process %d: %v", p, s)
			}
		case s.Kind != span.SandboxEnd && s.text(span.KeyExecutablePath) != parent.text(span.KeyExecutablePath):
			e.add("under another program: %v under %v", s, parent)
		}
	}
	if roots != 1 {
		e.add("%d roots, want the first process's", roots)
	}
	e.tell()
}

// standsIn is whether a span stands for the parent of s, whose own trace has come to its end.
func standsIn(p, s *seen) bool { return p != nil && p.flag(span.KeyStandIn) && p.Trace == s.Trace }

// complaints are test errors of which the first few are printed: the rest is seldom news.
type complaints struct {
	t     *testing.T
	count int
}

func (e *complaints) add(format string, args ...any) {
	e.t.Helper()
	if e.count++; e.count <= 5 {
		e.t.Errorf(format, args...)
	}
}

func (e *complaints) tell() {
	e.t.Helper()
	if e.count > 5 {
		e.t.Errorf("%d complaints like these in all", e.count)
	}
}

// sound demands what holds for every span of the contract.
func (r *rig) sound(t *testing.T) {
	t.Helper()
	ids := map[span.ID]bool{}
	// The path of a cgroup that nobody watches is not known.
	bornOutside := map[int]bool{}
	for _, s := range r.spans.spans {
		if s.Kind == span.Escape && s.text(span.KeyCgroupTo) == "" {
			bornOutside[s.pid()] = true
		}
	}
	e := complaints{t: t}
	for i, s := range r.spans.spans {
		if got := s.number(span.KeySeq); got != i+1 {
			e.add("sequence number %d at place %d", got, i+1)
		}
		if ids[s.ID] || s.ID == (span.ID{}) || s.Trace == (span.TraceID{}) {
			e.add("the ids are zero or were used before: %v", s)
		}
		ids[s.ID] = true
		if s.End < s.Start+1000 {
			e.add("shorter than a microsecond: %v", s)
		}
		if first := span.TraceFor(s.Instance, "", 0); s.Parent == (span.ID{}) && s.Trace != first && len(s.Links) == 0 && !strings.HasPrefix(s.Instance, "sb-") {
			e.add("a root in a later trace of its session, without a link to it: %v", s)
		}
		for _, key := range []string{span.KeyContract, span.KeySandboxID, span.KeySessionID, span.KeyAgentName, span.KeyAttribution} {
			if s.text(key) == "" {
				e.add("no %s: %v", key, s)
			}
		}
		if s.Kind != span.Loss && s.Kind != span.Limit && s.Kind != span.SandboxEnd && !s.flag(span.KeyStandIn) && (s.pid() == 0 || s.text(span.KeyExecutablePath) == "" || s.text(span.KeyCgroup) == "" && !bornOutside[s.pid()]) {
			e.add("a process that is not known: %v", s)
		}
		for key, v := range s.attrs {
			if text, ok := v.(string); ok && !utf8.ValidString(text) {
				e.add("%s is not UTF-8: %v", key, s)
			}
		}
	}
	e.tell()
}

// lossless demands that nothing was lost, refused or left over.
func (r *rig) lossless(t *testing.T) {
	t.Helper()
	st := r.feed.Stats()
	if r.compatCalls {
		// This program runs at every system call of the machine, and nearly all that are skipped would have found nothing.
		for _, l := range r.losses() {
			if l.Cause == record.CauseMissed {
				st.Lost -= l.Count
			}
		}
	}
	if st.Lost != 0 || st.Refused != 0 {
		t.Errorf("%d records lost, %d refused", st.Lost, st.Refused)
	}
	if r.stats.Malformed != 0 || r.stats.EvictedProcesses != 0 || r.stats.Held != 0 {
		t.Errorf("the collector is not clean: %+v", r.stats)
	}
}

// TestWhatAWorkloadDoesIsInTheSpans runs every scenario of the workload in a sandbox of its
// own, all of them under one sensor, for each form of the hooks.
func TestWhatAWorkloadDoesIsInTheSpans(t *testing.T) {
	program := workloadtest.Build(t)
	names := slices.DeleteFunc(workload.Names(), func(name string) bool {
		// These have tests of their own.
		return name == "storm" || name == workload.Driven || name == "wait" || name == "leave-thread" || strings.HasPrefix(name, workload.EvadePrefix) || strings.HasPrefix(name, workload.FloodPrefix)
	})
	for _, form := range allForms(t) {
		t.Run("by "+string(form), func(t *testing.T) { testScenarios(t, program, bpf.Options{Form: form}, names, sentences) })
	}
}

// sentences names what each scenario shows; one without a sentence fails the test.
var sentences = map[string]string{
	"open-read":             "a file that is read",
	"open-write":            "writing, appending, truncating and creating are told apart",
	"open-repeated":         "repeated reads are one span with a count",
	"open-create-exclusive": "an exclusive creation, and its refusal when the file exists",
	"open-tmpfile":          "a file that never has a name",
	"open-path-only":        "a descriptor for the path only",
	"open-missing":          "a file that is not there",
	"open-denied":           "files that the user may not open",
	"open-loop":             "symbolic links in a circle, and one that must not be followed",
	"open-relative":         "names relative to the working directory, opened and refused",
	"open-dirfd":            "names relative to a descriptor, opened and refused",
	"open-dotdot":           "a name with dots is resolved by the kernel",
	"open-symlink":          "a symbolic link is told by its target",
	"open-renamed":          "a renamed file is told by the name it had at the time",
	"open-unlinked":         "a file without a name is told as deleted",
	"open-chroot":           "paths in a chroot are those of the process",
	"open-long-path":        "a path of 4000 bytes is whole",
	"open-threads":          "what threads open belongs to their process",
	"open-openat2":          "openat2, and what it refuses to resolve",
	"open-creat":            "creat",
	"open-odd-names":        "names with newlines, escapes and invalid UTF-8",
	"open-bind-mount":       "a bind mount in a namespace of its own",
	"open-overlay":          "an overlay, before and after copying up",

	"rename":           "renames by each call, with absolute and relative names and with descriptors",
	"rename-over":      "a file that takes the place of another, as editors save",
	"rename-directory": "a directory over an empty one, and its refusal over one that is not",
	"rename-refused":   "renames of what is missing, into what is missing or forbidden, over a directory, to another file system",
	"rename-flags":     "names that are exchanged, and a name that is not to be replaced",
	"rename-odd-names": "names with newlines, arrows and escapes, and of 255 bytes",
	"rename-long-path": "names of 4095 bytes",

	"change-unlink":      "files that are deleted, also an open one, and what cannot be",
	"change-rmdir":       "directories that are deleted, and what cannot be",
	"change-mkdir":       "directories that are made, and refused",
	"change-mknod":       "a fifo, a file and a device, and what is refused",
	"change-link":        "hard links, and what is refused",
	"change-link-tmp":    "a name for a file that had none, by its descriptor",
	"change-symlink":     "symbolic links, with targets as they are given, and refused",
	"change-truncate":    "a file that is cut, by name and by descriptor, and what cannot be",
	"change-mode":        "modes, by each call, given and refused",
	"change-owner":       "owners, by each call, given and refused",
	"change-xattr":       "extended attributes that are set and removed, and refused",
	"change-times":       "times of files, by each call, and refused",
	"change-odd-names":   "changes of names with newlines, arrows, escapes and invalid UTF-8, and of 255 bytes",
	"change-long-path":   "changes of names of 4095 bytes, and of one byte more",
	"change-onto-itself": "a rename of a name to itself, and to another name of the same file",
	"change-mount":       "mounts that are made, moved, changed and taken away, and refused",
	"change-busy":        "what cannot be deleted or replaced because something is mounted there",
	"change-across":      "renames and links to another file system, and changes on a tmpfs",
	"change-pivot":       "another root of the mount namespace",
	"change-chroot":      "another root directory, and refused",
	"change-overlay":     "changes on an overlay, whose copies and whiteouts are not told",

	"exec-child":           "a program that is started",
	"exec-fails":           "a program that does not exist leaves no exec",
	"exec-exit-code":       "an exit code",
	"exec-killed":          "a signal",
	"exec-chain":           "a program that replaces itself",
	"exec-other-thread":    "an exec from a thread that is not the leader",
	"exec-empty-path":      "an exec by descriptor, without a name",
	"exec-memfd":           "a program that was never on a disk",
	"exec-deleted":         "a program whose file is gone",
	"exec-script":          "a script and its interpreter",
	"exec-working-dir":     "a working directory",
	"exec-as-nobody":       "another user",
	"exec-big-arguments":   "64 KiB of hostile arguments",
	"exec-big-environment": "a listed variable at the end of 128 KiB of environment",
	"fork-without-exec":    "a fork that never execs",
	"exec-refused":         "execs that are refused, by path, descriptor and without a name",
	"worker-ends":          "forks that never exec, and do not end well",
	"signal-outside":       "signals to a process outside, in each way to send one",
	"signal-inside":        "signals within the sandbox, and what the kernel sends, are not told",

	"connect-tcp":                      "TCP",
	"connect-tcp6":                     "TCP over IPv6",
	"connect-tcp-mapped":               "IPv4 through an IPv6 socket",
	"connect-tcp-non-blocking":         "a non-blocking connect",
	"connect-tcp-refused":              "a refused connect",
	"connect-tcp6-refused":             "a refused connect over IPv6",
	"connect-tcp-non-blocking-refused": "a refused non-blocking connect",
	"connect-tcp-timed-out":            "a connect that times out",
	"connect-tcp-given-up":             "a socket that is closed before there is an outcome",
	"connect-udp":                      "a connected UDP socket",
	"send-udp":                         "datagrams without a connect, both ways",
	"send-udp6":                        "datagrams over IPv6",
	"unix-path":                        "a unix socket",
	"unix-datagram":                    "a unix datagram socket",
	"unix-abstract":                    "an abstract unix socket",
	"unix-relative":                    "a unix socket by a relative name",
	"unix-symlink":                     "a unix socket through a symbolic link",
	"unix-missing":                     "a unix socket that is not there",
	"unix-refused":                     "a unix socket that nobody listens on",

	"connect-vsock": "a connect of a vsock socket",

	"listen-tcp":       "servers at one address and at every one",
	"listen-autobind":  "a server at a port of the kernel's choice",
	"listen-refused":   "a second server at the same address",
	"listen-go":        "a server as Go makes it, by MPTCP, with all bytes of its connections",
	"listen-unix":      "servers of unix sockets, with a path and abstract",
	"listen-repeated":  "repeated servers are one span with a count",
	"accept-tcp":       "connections that come in, by each call",
	"accept-tcp6":      "connections that come in over IPv6",
	"accept-tcp-mixed": "a connection of IPv4 to a server of IPv6",
	"accept-nothing":   "a connection that nobody accepts is told by its other side",

	"close-here":       "a connection that this side ends first",
	"close-peer":       "a connection that the peer ends first",
	"close-half":       "bytes after one direction has ended",
	"close-reset":      "a connection that is broken off",
	"close-unread":     "a connection that is closed with bytes unread",
	"close-timed-out":  "a connection whose network is gone, in a namespace of its own",
	"close-by-exit":    "a connection that ends with its process",
	"close-other-exec": "a connection that an exec closes",
	"send-no-route":    "datagrams that no route leads for",
	"send-forbidden":   "a datagram that is forbidden, and then is not",
	"send-several":     "datagrams to several destinations by one call",
	"connect-any":      "a connect to the address of all zeros",

	"socket-raw":            "raw sockets",
	"socket-packet":         "packet sockets, also by their old name",
	"socket-other-families": "sockets of rare families, made and refused",
	"socket-other-protocol": "sockets of the internet that no connection hook sees",
	"socket-refused":        "a raw socket that the user may not have",
	"socket-repeated":       "repeated sockets are one span with a count",
	"socket-ordinary":       "ordinary sockets are not told",

	"namespace-unshare":         "namespaces of its own, given and refused",
	"namespace-unshare-refused": "a namespace that the user may not have",
	"namespace-unshare-files":   "unshare of what is no namespace is not told",
	"namespace-repeated":        "repeated unshares are one span with a count",
	"namespace-setns":           "joining namespaces by their files, and what cannot be joined",
	"namespace-setns-pidfd":     "joining several namespaces of a process",
	"namespace-clone":           "a child born into namespaces of its own",

	"access-ptrace":     "ptrace, of a child and of a process outside",
	"access-memory":     "memory of a child and of a process outside",
	"access-descriptor": "a descriptor of a child and of a process outside",
	"access-refused":    "reaching into a process of another user; who transfers nothing has not reached it",
	"access-repeated":   "repeated reads of memory are one span with a count",
	"access-nested":     "a target that has another number in the caller's pid namespace",
	"access-own":        "its own memory is not told",
	"access-proc":       "memory as a file of /proc",

	"cgroup-escape": "a process that leaves its cgroup stays watched",
	"cgroup-nested": "a process born in a cgroup that was made a moment ago",
}

func testScenarios(t *testing.T, program workloadtest.Program, o bpf.Options, names []string, sentences map[string]string) {
	var results map[string]workloadtest.Result
	var outside workloadtest.Result
	r := unskipped(t, o, func(r *rig) {
		for _, h := range r.sensor.Hooks() {
			if !h.Attached {
				t.Logf("%s is not attached: %v", h.Name, h.Err)
			}
		}
		r.start()
		r.read()
		results = map[string]workloadtest.Result{}
		for _, name := range names {
			attr := r.sandbox(name)
			args := []string{name}
			switch name {
			case "cgroup-escape", "evade-leave-born-outside", "evade-leave-sibling":
				args = append(args, filepath.Join(r.mount.Dir, r.base))
			case "evade-attack-sensor":
				args = append(args, fmt.Sprint(os.Getpid()))
			case "cgroup-nested":
				args = append(args, filepath.Join(r.mount.Dir, r.base, name))
			}
			results[name] = program.Run(t, attr, args...)
		}
		outside = program.Run(t, nil, "open-read")
		r.stop()
	})

	changes := r.changes()
	for name, result := range results {
		sentence, ok := sentences[name]
		if !ok {
			t.Errorf("scenario %s has no sentence", name)
			continue
		}
		t.Run(sentence, func(t *testing.T) {
			a := &account{t: t, facts: result.Facts, spans: r.sessions[name], changes: changes, byCall: !r.trampoline()}
			a.compare()
			a.lineage(result.Pid)
			if check := particular[name]; check != nil {
				check(t, r, a)
			}
		})
	}
	t.Run("what happens outside every sandbox is not told", func(t *testing.T) {
		for _, s := range r.spans.spans {
			if s.pid() == outside.Pid {
				t.Errorf("told: %v", s)
			}
		}
	})
	t.Run("every span keeps the contract", r.sound)
	t.Run("nothing is lost", r.lossless)
	t.Run("the same records give the same spans again", func(t *testing.T) {
		var again recorder
		c, err := collector.New(r.config, &again)
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range r.raw.records {
			if err := c.Record(raw); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		if len(again.spans) != len(r.spans.spans) {
			t.Fatalf("%d spans, then %d", len(r.spans.spans), len(again.spans))
		}
		for i := range again.spans {
			if a, b := r.spans.spans[i], again.spans[i]; !reflect.DeepEqual(a, b) {
				t.Fatalf("span %d differs:\n%v\n%v", i+1, a, b)
			}
		}
	})
}

// particular are the checks that only one scenario needs.
var particular = map[string]func(*testing.T, *rig, *account){
	"exec-fails": func(t *testing.T, _ *rig, a *account) {
		if n := len(a.of(span.Exec)); n != 1 {
			t.Errorf("%d execs, want the workload's own only", n)
		}
	},
	"change-link-tmp": func(t *testing.T, _ *rig, a *account) {
		for i := range a.changes {
			if e := &a.changes[i]; int(e.Header.Tgid) == a.facts[0].Pid && e.Change.Op == record.ChangeLink && e.Change.Inode == 0 {
				t.Errorf("what got the name %q is not known", e.Change.New.Name)
			}
		}
	},
	"exec-memfd":   flagged(span.KeyFileless),
	"exec-deleted": flagged(span.KeyFileless),
	"exec-script": func(t *testing.T, _ *rig, a *account) {
		script := a.facts[0].Requested
		for _, s := range a.of(span.Exec) {
			if s.pid() == a.facts[0].Pid && s.text(span.KeyScript) != script {
				t.Errorf("the script is %q, not %q", s.text(span.KeyScript), script)
			}
		}
	},
	"exec-chain": func(t *testing.T, _ *rig, a *account) {
		var replaced []*seen
		for _, s := range a.of(span.Exec) {
			if s.flag(span.KeyReplaced) {
				replaced = append(replaced, s)
			}
		}
		if len(replaced) != 1 {
			t.Fatalf("%d programs were replaced, want one", len(replaced))
		}
		for _, s := range a.of(span.Exec) {
			if s.pid() == replaced[0].pid() && s != replaced[0] && s.Parent != replaced[0].ID {
				t.Errorf("the second program is not under the first: %v", s)
			}
		}
	},
	"exec-big-arguments": func(t *testing.T, _ *rig, a *account) {
		want := []string{"/proc/self/exe", "role-report"}
		for _, arg := range workload.BigArguments() {
			want = append(want, strings.ToValidUTF8(arg, "\uFFFD"))
		}
		for _, s := range a.of(span.Exec) {
			if s.number(span.KeyArgsCount) != len(want) {
				continue
			}
			// The span has the first of them, and what shows that all were read.
			hash := sha256.Sum256([]byte(strings.Join(want, "\x00") + "\x00"))
			if got, _ := s.attrs[span.KeyCommandArgs].([]string); len(got) < 2 || !strings.HasPrefix(strings.Join(want, "\x00"), strings.Join(got, "\x00")) {
				t.Errorf("got %d arguments, of %d: %.300q", len(got), len(want), got)
			}
			if got := s.text(span.KeyArgsHash); got != hex.EncodeToString(hash[:]) || !s.flag(span.KeyArgsTruncated) {
				t.Errorf("hash %q, want %x", got, hash)
			}
			if !s.flag(span.KeyUTF8Repaired) {
				t.Error("the repair of invalid UTF-8 is not told")
			}
			return
		}
		t.Errorf("no exec with %d arguments", len(want))
	},
	"exec-big-environment": func(t *testing.T, r *rig, a *account) {
		var e record.Event
		for _, raw := range r.raw.records {
			if err := e.Decode(raw); err != nil || e.Header.Type != record.TypeExec || int(e.Header.Tgid) != a.facts[0].Pid {
				continue
			}
			if want := workload.ListedVariable + "=last\x00"; string(e.Exec.Env) != want {
				t.Errorf("the record has the variables %q, want %q", e.Exec.Env, want)
			}
			if e.Header.Flags&record.ExecEnvTruncated != 0 {
				t.Error("said to be truncated")
			}
			return
		}
		t.Error("no exec record")
	},
	"socket-ordinary":         none(span.Socket),
	"namespace-unshare-files": none(span.Namespace),
	"access-own":              none(span.Access),
	"signal-inside":           none(span.Access),
	"exec-refused": func(t *testing.T, _ *rig, a *account) {
		if n := a.of(span.Exec)[0].number(span.KeyExecsMissing); n != 4 {
			t.Errorf("%d execs of what is not there, want 4", n)
		}
	},
	"worker-ends": func(t *testing.T, _ *rig, a *account) {
		s := a.of(span.Exec)[0]
		if all, bad := s.number(span.KeyWorkers), s.number(span.KeyWorkersFailed); all != 3 || bad != 2 {
			t.Errorf("%d workers, %d of them failed", all, bad)
		}
	},
	"namespace-clone": func(t *testing.T, _ *rig, a *account) {
		for _, s := range a.of(span.Exec) {
			if s.pid() == a.facts[0].Pid && s.number(span.KeyVPID) != 1 {
				t.Errorf("the first process of a pid namespace has pid %d there", s.number(span.KeyVPID))
			}
		}
	},
	"access-proc": func(t *testing.T, r *rig, a *account) {
		want := 0
		for _, h := range r.sensor.Hooks() {
			if h.Name == "access_check" {
				want = 1 // only the trampoline sees it
			}
		}
		list := a.of(span.Access)
		if len(list) != want || want > 0 && list[0].text(span.KeyAccessOp) != "proc" {
			t.Errorf("%d accesses, want %d: %v", len(list), want, list)
		}
	},
	"cgroup-escape": func(t *testing.T, r *rig, a *account) {
		escapes := a.of(span.Escape)
		if len(escapes) != 1 {
			t.Fatalf("%d escapes, want one: %v", len(escapes), escapes)
		}
		e := escapes[0]
		if from, to := e.text(span.KeyCgroupFrom), e.text(span.KeyCgroupTo); from != r.base+"/cgroup-escape" || to != r.base {
			t.Errorf("from %s to %s", from, to)
		}
	},
	"cgroup-nested": func(t *testing.T, r *rig, a *account) {
		want := path.Join(r.base, "cgroup-nested", "below")
		for _, s := range a.of(span.Exec) {
			if s.text(span.KeyCgroup) == want {
				return
			}
		}
		t.Errorf("no exec in %s", want)
	},
	"open-threads": func(t *testing.T, r *rig, a *account) {
		tids := map[uint32]bool{}
		var e record.Event
		for _, raw := range r.raw.records {
			if err := e.Decode(raw); err == nil && e.Header.Type == record.TypeOpen && int(e.Header.Tgid) == a.facts[0].Pid {
				tids[e.Header.Tid] = true
			}
		}
		if len(tids) < 2 {
			t.Errorf("the records have %d thread ids", len(tids))
		}
	},
}

// none demands that there is no span of a kind.
func none(kind span.Kind) func(*testing.T, *rig, *account) {
	return func(t *testing.T, _ *rig, a *account) {
		if list := a.of(kind); len(list) > 0 {
			t.Errorf("told: %v", list)
		}
	}
}

// flagged demands the flag on the last exec.
func flagged(key string) func(*testing.T, *rig, *account) {
	return func(t *testing.T, _ *rig, a *account) {
		last := a.facts[0].Pid
		for _, s := range a.of(span.Exec) {
			if s.pid() == last && !s.flag(key) {
				t.Errorf("no %s: %v", key, s)
			}
		}
	}
}

// TestAProcessOlderThanTheSensorIsPickedUp starts a process before anything is watched.
func TestAProcessOlderThanTheSensorIsPickedUp(t *testing.T) {
	program := workloadtest.Build(t)
	for _, form := range allForms(t) {
		t.Run("by "+string(form), func(t *testing.T) {
			var result workloadtest.Result
			r := unskipped(t, bpf.Options{Form: form}, func(r *rig) {
				old := program.Start(t, r.sandbox("old"), "wait")
				r.start()
				r.read()
				result = old.Finish(t)
				r.stop()
			})

			a := &account{t: t, facts: result.Facts, spans: r.sessions["old"]}
			a.compare()
			a.lineage(result.Pid)
			for _, s := range a.of(span.Exec) {
				if s.pid() != result.Pid {
					continue
				}
				if !s.flag(span.KeyPreexisting) {
					t.Errorf("not said to be older than the sensor: %v", s)
				}
				if got, _ := s.attrs[span.KeyCommandArgs].([]string); !slices.Equal(got, []string{program.Path(), "wait"}) {
					t.Errorf("its arguments are %q", got)
				}
			}
			r.sound(t)
			r.lossless(t)
		})
	}
}

// TestAProcessThatIsMovedIntoASandboxIsKnownFromThenOn starts one elsewhere and moves it.
func TestAProcessThatIsMovedIntoASandboxIsKnownFromThenOn(t *testing.T) {
	program := workloadtest.Build(t)
	var result workloadtest.Result
	r := unskipped(t, bpf.Options{}, func(r *rig) {
		r.raw.told = make(chan record.Header, 64)
		r.start()
		r.read()
		r.sandbox("moved")
		running := program.Start(t, nil, "wait")
		if err := r.mount.Move(running.Pid(), r.base+"/moved"); err != nil {
			t.Fatal(err)
		}
		for h := range r.raw.told {
			if int(h.Tgid) == running.Pid() {
				break
			}
		}
		result = running.Finish(t)
		r.stop()
	})
	a := &account{t: t, facts: result.Facts, spans: r.sessions["moved"]}
	a.compare()
	a.lineage(result.Pid)
	r.sound(t)
}

// TestAProgramIsFoundByItsNameWhereverItIsStarted runs the workload under names of agents, outside of the sandboxes.
func TestAProgramIsFoundByItsNameWhereverItIsStarted(t *testing.T) {
	built, err := os.ReadFile(workloadtest.Build(t).Path())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	named := func(name string) string {
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, built, 0o755); err != nil {
			t.Fatal(err)
		}
		return to
	}
	// The longest name in the table; one that the kernel looks for and that is no agent; one that it does not look for.
	const long = "codex-aarch64-unknown-linux-musl"
	// And one that is named as a version, which is started by a link.
	const version = "share/codex/versions/2.0.64"
	names := []string{"codex", long, version, "python3.11", "cargo"}
	for _, form := range allForms(t) {
		t.Run("by "+string(form), func(t *testing.T) {
			pids := map[string]int{}
			r := unskipped(t, bpf.Options{Form: form, Programs: []bpf.ProgramName{{Name: "codex"}, {Name: long}, {Name: "python", Stem: true}}}, func(r *rig) {
				r.start()
				r.read()
				for _, name := range names {
					run := exec.Command(named(name), "exec-child")
					if name == version {
						run.Args[0] = "codex"
					}
					if out, err := run.Output(); err != nil {
						t.Fatalf("%s: %v: %s", name, err, out)
					}
					pids[name] = run.Process.Pid
				}
				r.stop()
			})
			told := map[int]int{} // by the agent's pid: programs, its child's included
			for _, s := range r.spans.spans {
				if s.Kind == span.Exec {
					told[s.pid()]++
					told[s.number(span.KeyParentPID)]++
				}
			}
			for _, name := range names {
				want := 0
				if strings.HasPrefix(name, "codex") || name == version {
					want = 2
				}
				if got := told[pids[name]]; got != want {
					t.Errorf("%s: %d programs told, want %d", name, got, want)
				}
			}
			r.lossless(t)
		})
	}
}

// stormSize is the number of short processes; guests are emulated and take fewer.
func stormSize() int {
	if os.Getenv("SHEETBEND_GUEST") != "" {
		return 100
	}
	return 2000
}

// TestEveryProcessOfAStormIsToldOrCounted is the stranger test: short processes in parallel trees.
func TestEveryProcessOfAStormIsToldOrCounted(t *testing.T) {
	program := workloadtest.Build(t)
	for _, form := range allForms(t) {
		t.Run("by "+string(form), func(t *testing.T) {
			r := newRig(t, bpf.Options{Form: form})
			r.start()
			r.read()
			result := program.Run(t, r.sandbox("storm"), "storm", fmt.Sprint(stormSize()))
			r.stop()
			t.Logf("%d processes, %d records, %d spans, lost: %v", stormSize(), r.feed.Stats().Records, r.stats.Spans, r.losses())
			r.checkStorm(result)
			if r.feed.Stats().Lost == 0 {
				r.sound(t)
				a := &account{t: t, facts: result.Facts, spans: r.sessions["storm"]}
				a.lineage(result.Pid)
			}
		})
	}
}

// TestWhatDoesNotFitTheRingIsCounted lets nobody read a small ring while a storm runs.
func TestWhatDoesNotFitTheRingIsCounted(t *testing.T) {
	program := workloadtest.Build(t)
	r := newRig(t, bpf.Options{RingBytes: 64 << 10})
	r.start()
	result := program.Run(t, r.sandbox("storm"), "storm", "200")
	r.stop()
	if r.feed.Stats().Lost == 0 {
		t.Error("a ring of 64 KiB held everything")
	}
	told := 0
	for _, s := range r.spans.spans {
		if s.Kind != span.Loss {
			continue
		}
		told += s.number(span.KeyLost)
		if s.text(span.KeyLostCause) == "" || s.text(span.KeyLostKind) == "" || !s.Failed {
			t.Errorf("a loss that does not say what and why: %v", s)
		}
	}
	if told != int(r.feed.Stats().Lost) {
		t.Errorf("%d records lost, the spans tell of %d", r.feed.Stats().Lost, told)
	}
	r.checkStorm(result)
}

// checkStorm demands of every fact that it is in a span or that at least as many records of
// its kind were lost as facts are missing.
func (r *rig) checkStorm(result workloadtest.Result) {
	r.t.Helper()
	type key struct {
		kind span.Kind
		pid  int
		what string
	}
	spans := map[key]*seen{}
	for _, s := range r.sessions["storm"] {
		switch s.Kind {
		case span.Exec:
			spans[key{span.Exec, s.pid(), ""}] = s
		case span.Open:
			spans[key{span.Open, s.pid(), s.text(span.KeyFilePath)}] = s
		case span.Connect:
			spans[key{span.Connect, s.pid(), fmt.Sprint(s.number(span.KeyPeerPort))}] = s
		}
	}
	lost := map[record.Type]int{}
	for _, l := range r.losses() {
		lost[l.Kind] += int(l.Count)
	}
	missing := map[span.Kind]int{}
	e := complaints{t: r.t}
	for _, f := range result.Facts {
		k := key{pid: f.Pid}
		switch f.Kind {
		case "exec":
			k.kind = span.Exec
		case "open":
			k.kind, k.what = span.Open, f.Path
		case "connect":
			k.kind, k.what = span.Connect, fmt.Sprint(f.Port)
		}
		s := spans[k]
		if s == nil {
			missing[k.kind]++
			continue
		}
		// Without losses its parent must be known; with them it may be an unknown one.
		if k.kind == span.Exec && len(lost) == 0 && f.Ppid != s.number(span.KeyParentPID) {
			e.add("process %d has parent %d, not %d", f.Pid, s.number(span.KeyParentPID), f.Ppid)
		}
		if k.kind == span.Exec && s.number(span.KeyExitCode) != 0 {
			e.add("process %d exited with %d", f.Pid, s.number(span.KeyExitCode))
		}
	}
	e.tell()
	for kind, t := range map[span.Kind]record.Type{span.Exec: record.TypeExec, span.Open: record.TypeOpen, span.Connect: record.TypeConnect} {
		if missing[kind] > lost[t] {
			r.t.Errorf("%d %s are missing, and only %d records of that kind were counted as lost", missing[kind], kind, lost[t])
		}
	}
}

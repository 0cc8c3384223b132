// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/live"
	"github.com/sheetbend/sheetbend/collector/names"
	"github.com/sheetbend/sheetbend/collector/pipeline"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/container"
	"github.com/sheetbend/sheetbend/enrich/host"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// ownTraces says whether agents' own spans go elsewhere than ours, so that ours cannot stand below them. inherits: the
// agents are started with this environment.
func ownTraces(c *config.Config, getenv func(string) string, inherits bool) bool {
	switch c.Trace.Join {
	case config.JoinAlways:
		return false
	case config.JoinNever:
		return true
	}
	ours, err := findEndpoints(c, getenv)
	if err != nil || !slices.ContainsFunc(ours, func(e endpoint) bool { return e.gets(otlp.Traces) }) {
		return true
	}
	if (c.Intake.Listen != "" || c.Intake.Unix != "") && c.Intake.Forward {
		return false
	}
	if inherits {
		theirs, ok, err := otlp.FindEndpoint("", "", getenv)
		return err != nil || !ok || !slices.ContainsFunc(ours, func(e endpoint) bool {
			return e.gets(otlp.Traces) && e.String() == theirs.String()
		})
	}
	return true
}

// self is the file of this program, zero if it is not known. stat(2) and the kernel's own count of devices agree
// on most file systems; where they do not, hooks are taken for commands.
func self() (id collector.FileID) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &st); err == nil {
		id = collector.FileID{Dev: unix.Major(st.Dev)<<20 | unix.Minor(st.Dev), Inode: st.Ino}
	}
	return id
}

// collectorConfig is all that spans depend on, of the configuration and this host. inherits: the agents are started
// with this environment.
func collectorConfig(
	c *config.Config, getenv func(string) string, inherits bool, log *slog.Logger,
) (collector.Config, error) {
	boot, err := host.BootID()
	if err != nil {
		return collector.Config{}, err
	}
	fromEnv, err := host.FromEnvironment(getenv)
	if err != nil {
		log.Warn(err.Error())
	}
	cc := collector.Config{
		BootID:           boot,
		Run:              strconv.FormatInt(time.Now().UnixNano(), 16),
		Resource:         host.Merge(host.Attributes(), fromEnv),
		Hold:             time.Duration(c.Hold),
		CallRetention:    time.Duration(c.CallRetention),
		MaxSpansPerTrace: c.Trace.MaxSpans,
		MaxTraceBytes:    int(c.Trace.MaxBytes),
		Noise:            config.Expand(c.Noise, collector.DefaultNoise()),
		Sensitive:        config.Expand(c.Sensitive, collector.DefaultSensitive()),
		WorkspaceIgnore:  config.Expand(c.Workspace.Ignore, collector.DefaultWorkspaceIgnore()),
		WorkspaceNever:   config.Expand(c.Workspace.Never, collector.DefaultWorkspaceNever()),
		Fold: collector.Fold{
			Files: c.Fold.Files, CallFiles: c.Fold.CallFiles, Window: time.Duration(c.Fold.Window),
			Directories: c.Fold.Directories, Missing: c.Fold.Missing, Creates: c.Fold.Creates,
			Trees: c.Fold.Trees != nil && *c.Fold.Trees,
		},
		SpanNames:       c.SpanNames,
		ShowCredentials: !c.MaskCredentials,
		PageBytes:       os.Getpagesize(),
		MaxProcesses:    c.Limits.Processes,
		MaxCgroups:      c.Limits.Cgroups,
		Agents:          agents.Merge(agents.Builtin(), c.Agents),
		Self:            self(),
		Names:           c.Names,
		Hosts:           names.ReadHosts("/etc/hosts"),
		OwnTraces:       ownTraces(c, getenv, inherits),
		Containers:      len(c.Containers.CRI)+len(c.Containers.Docker) > 0,
	}
	for _, s := range c.Sandboxes {
		selector, err := s.Selector()
		if err != nil {
			return collector.Config{}, err
		}
		cc.Sandboxes = append(cc.Sandboxes, selector)
	}
	cc = cc.WithDefaults()
	return cc, cc.Validate()
}

// A watch is the way from the kernel to the spans: the sensor in the kernel and the pipeline, with what adds to its
// records.
type watch struct {
	sensor   *bpf.Sensor
	pipeline *pipeline.Pipeline
	mount    cgroup.Mount
	globs    cgroup.Globs // of the sandboxes
	runtimes *runtimes    // nil when none is asked
	dialer   *dialer      // of unix sockets, nil if this process makes them itself
	users    *watches     // commands that users have watched; nil: none can be
	asked    *askedCgroups
	journal  string // path; "" without one
	resumed  uint64 // entries of the journal
	dropped  int64  // bytes of one that could not be used

	inputs cleanups // of what adds to the stream: the reading ends after them
	undo   cleanups // to be run in the end
}

// watchOptions say what is watched and where its spans go.
type watchOptions struct {
	config    *config.Config
	collector collector.Config
	mount     cgroup.Mount
	pins      pinning
	dialer    *dialer

	closeEvents func([]*os.File) // bpf.Options.CloseEvents

	asked     *askedCgroups // those that users have watched; nil: none can be
	views     []span.Sink   // get every span
	outputs   *outputs      // gets those that an earlier process has not delivered; nil: there is none
	capture   *captureFile
	delivered *cleanups // run when the outputs are closed; needed with pins

	log *slog.Logger
}

// startWatch loads the kernel side and watches the sandboxes. When it returns, what is started in one of them is seen;
// run has to follow.
func startWatch(o watchOptions) (_ *watch, err error) {
	cc := o.collector
	w := &watch{mount: o.mount, dialer: o.dialer, asked: o.asked}
	defer w.undo.onError(&err)
	p := pipeline.Options{Config: cc, Hierarchy: o.mount, Views: o.views, Log: o.log}
	if o.outputs != nil {
		p.Outputs, p.Delivered = []span.Sink{pipeline.LossLog{Log: o.log}, o.outputs}, o.outputs.delivered
	}
	if o.capture != nil {
		p.Capture = o.capture
	}
	if o.asked != nil {
		p.Asked = o.asked.has
	}
	if w.globs, err = globsOf(cc.Sandboxes); err != nil {
		return nil, err
	}
	p.Globs = w.globs
	if cc.Containers {
		inject := func(raw []byte) bool { return w.pipeline.Feed.Inject(raw) }
		if w.runtimes, err = openRuntimes(o.config, cc.Sandboxes, inject, o.dialer, o.log); err != nil {
			return nil, err
		}
		w.undo.add("container runtimes", w.runtimes.close)
		p.Seen = w.runtimes.resolver.Seen
		if own, err := o.mount.Of(os.Getpid()); err == nil {
			if ref, ok := container.FromCgroup(own); ok {
				p.Except = ref.Root
			}
		}
	}
	programs := lookedFor(cc)
	p.Finds = len(programs) > 0
	if err := checkJournal(o.config, o.pins); err != nil {
		return nil, err
	}
	if w.sensor, err = load(o, programs); err != nil {
		return nil, err
	}
	w.undo.add("detach from the kernel", w.sensor.Close) // takes it some tenths of seconds
	p.Source = w.sensor
	if o.pins.dir != "" {
		if p.Journal, err = openJournal(o.config, w.sensor.Pins(), cc.BootID, o.log); err != nil {
			return nil, err
		}
	}
	if w.pipeline, err = pipeline.New(p); err != nil {
		return nil, errors.Join(err, p.Journal.Close())
	}
	if p.Journal != nil {
		w.journal = p.Journal.Path()
		o.delivered.add("journal", w.pipeline.Close)
	}
	w.runtimes.start()
	if err := w.pipeline.Start(); err != nil {
		return nil, err
	}
	w.undo.add("inputs", w.inputs.run) // where none was read
	stats := w.pipeline.Feed.Stats()
	w.resumed, w.dropped = stats.Resumed, stats.Dropped
	if w.resumed > 0 {
		o.log.Info("restored from the journal what the sensor before knew", "entries", w.resumed)
	}
	return w, nil
}

// load loads the kernel side.
func load(o watchOptions, programs []bpf.ProgramName) (*bpf.Sensor, error) {
	c, cc := o.config, o.collector
	scope, err := json.Marshal(cc.Sandboxes)
	if err != nil {
		return nil, err
	}
	ring := powerOfTwo(int(c.Limits.RingBytes))
	sensor, err := bpf.Load(bpf.Options{
		CgroupRoot:   o.mount.Dir,
		RingBytes:    ring,
		BudgetBytes:  min(int(c.Limits.SandboxRingBytes), ring),
		Noise:        cc.Noise,
		Form:         bpf.Form(c.OpenHook),
		CompatCalls:  c.CompatCalls,
		NoNames:      !c.Names,
		EnvNames:     agents.EnvNames(cc.Agents),
		Programs:     programs,
		MaxCgroups:   c.Limits.Cgroups,
		MaxProcesses: c.Limits.Processes,
		Pin:          o.pins.dir,
		Unpin:        o.pins.unpin,
		Layout:       record.Layout,
		Scope:        string(scope),
		CloseEvents:  o.closeEvents,
	})
	if err != nil {
		return nil, fmt.Errorf("%w (sheetbend doctor tells more)", err)
	}
	return sensor, nil
}

// globsOf gives the patterns of the sandboxes that are chosen by their cgroups.
func globsOf(sandboxes []collector.Selector) (globs cgroup.Globs, err error) {
	for _, s := range sandboxes {
		if s.Cgroup == "" {
			continue
		}
		g, err := cgroup.ParseGlob(s.Cgroup)
		if err != nil {
			return nil, err
		}
		globs = append(globs, g)
	}
	return globs, nil
}

// inside says whether a process is watched, by its cgroup or by its lineage. One that cannot be looked up is taken for
// one.
func (w *watch) inside(pid int) bool {
	if w.known(pid) {
		return true
	}
	cg, err := w.mount.Of(pid)
	if err != nil {
		return true
	}
	return w.watches(cg)
}

// known says whether a process is a sandbox's by its lineage, for the kernel side or for the collector: the one may
// have had no room for it, the other not have heard of it yet.
func (w *watch) known(pid int) bool {
	if w.sensor.Follows(uint32(pid)) {
		return true
	}
	if w.pipeline.Collector == nil {
		return false
	}
	start, ok := w.pipeline.Collector.Lineage().Started(uint32(pid))
	return ok && live.Alive(uint32(pid), start)
}

// watches says whether a cgroup is watched; one that cannot be looked up is taken for one.
func (w *watch) watches(cg string) bool {
	id, err := w.mount.ID(cg)
	return err != nil || w.sensor.Watches(id)
}

// lookedFor are the programs that may be agents that a selector asks for wherever they are.
func lookedFor(cc collector.Config) (programs []bpf.ProgramName) {
	var ds []agents.Dialect
	for _, d := range cc.Agents {
		if slices.ContainsFunc(cc.Sandboxes, func(s collector.Selector) bool { return s.Finds(d.Name) }) {
			ds = append(ds, d)
		}
	}
	names, versions := agents.ProgramNames(ds)
	for _, name := range names {
		programs = append(programs, bpf.ProgramName{Name: name})
	}
	for _, name := range versions {
		programs = append(programs, bpf.ProgramName{Name: name, Stem: true})
	}
	return programs
}

// run reads until ctx ends, and then the inputs have, and everything before that has become spans. undo has to follow.
func (w *watch) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	reading, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		ended <- w.inputs.run()
		end()
	})
	err := w.pipeline.Run(reading)
	stop() // it may have ended by itself
	err = errors.Join(err, <-ended, w.runtimes.close())
	w.pipeline.Finish()
	return err
}

// lost lists, for people, what is not in the spans because records of it are missing. To be called
// after run.
func (w *watch) lost() (lines []string) {
	f := w.pipeline.Feed.Stats()
	if f.Lost > 0 {
		lines = append(lines, count(f.Lost, "record")+" lost in the kernel: a larger limits.ring_bytes helps")
	}
	if f.NotInjected > 0 {
		lines = append(lines, count(f.NotInjected, "record")+
			" of markers, containers or agent telemetry not taken: too many at once")
	}
	if f.Unlimited > 0 {
		lines = append(lines, count(f.Unlimited, "time")+" limits of a sandbox not looked at: there were too many at once")
	}
	if w.pipeline.Collector == nil {
		return lines
	}
	s := w.pipeline.Collector.Stats()
	if s.Malformed > 0 {
		lines = append(lines, count(s.Malformed, "malformed record")+" skipped")
	}
	if s.UnresolvedContainers > 0 {
		lines = append(lines, count(s.UnresolvedContainers, "container")+
			" that no runtime described in time: spans have the cgroup alone")
	}
	if s.EvictedProcesses > 0 {
		lines = append(lines, "state of "+count(s.EvictedProcesses, "live process")+" dropped: raise limits.processes")
	}
	if s.RefusedCgroups > 0 {
		lines = append(lines, count(s.RefusedCgroups, "cgroup")+" not watched: raise limits.cgroups")
	}
	return lines
}

// sandboxOf names the sandbox of a process, by the cgroup that it is in, or as one of a user's agents that were found
// by their lineage; "" if it is in none.
func (w *watch) sandboxOf(pid int, uid uint32, cg string) string {
	if w.globs.Selects(cg) {
		// The shallowest directory that is selected, as the collector has it.
		for up := path.Dir(cg); w.globs.Selects(up); up = path.Dir(up) {
			if cg = up; up == "/" {
				break
			}
		}
		return cg
	}
	if ref, ok := container.FromCgroup(cg); ok && w.watches(cg) {
		return ref.Root
	}
	if asked := w.asked.of(cg); asked != "" {
		return asked
	}
	if w.known(pid) {
		return "agents of user " + strconv.FormatUint(uint64(uid), 10)
	}
	return ""
}

// refused lists, for people, what was reported to the sensor and had no effect. To be called after run.
func (w *watch) refused() (lines []string) {
	if w.pipeline.Collector == nil {
		return nil
	}
	s := w.pipeline.Collector.Stats()
	add := func(n uint64, noun, what string) {
		if n > 0 {
			lines = append(lines, count(n, noun)+" "+what)
		}
	}
	add(s.RefusedMarks, "mark", "of tool calls (by whom may not, or an end of no open call)")
	add(s.RefusedFacts, "fact", "of agent telemetry (about no call, or from inside of one)")
	add(s.DroppedFacts, "fact", "of agent telemetry (about calls that never came, or too many)")
	add(s.RefusedSessions, "session id", "(in use elsewhere)")
	return lines
}

// powerOfTwo rounds up, as a ring buffer's size has to be one.
func powerOfTwo(n int) int { return 1 << bits.Len(uint(n-1)) }

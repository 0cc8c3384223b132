// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/confine"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/exporters/metrics"
	"github.com/sheetbend/sheetbend/exporters/otlp"
	"github.com/sheetbend/sheetbend/exporters/sessions"
)

// metered is what the daemon's metrics are read from, at each scrape. It implements prometheus.Collector.
type metered struct {
	watch  *watch
	out    *outputs
	intake *intake // nil: no agents' telemetry is taken in
	view   *sessions.View
	ending atomic.Bool
	holds  atomic.Pointer[confine.Report] // nil: not confined
	server *metrics.Server
}

// serveMetrics serves what c asks for until the watch is closed; nil if that is nothing.
func serveMetrics(
	c config.Metrics, w *watch, out *outputs, in *intake, view *sessions.View, log *slog.Logger,
) (*metered, error) {
	if c.Listen == "" || w.pipeline.Stats == nil {
		return nil, nil
	}
	m := &metered{watch: w, out: out, intake: in, view: view}
	var err error
	m.server, err = metrics.Listen(metrics.Options{
		Listen: c.Listen, Expose: c.Expose, Pprof: c.Pprof, Collectors: []prometheus.Collector{m},
		Healthy: w.pipeline.Stats.Alive, Ready: m.ready, Log: log,
	})
	if err != nil {
		return nil, err
	}
	w.undo.add("metrics", m.server.Close) // before what is asked is closed
	w.inputs.add("readiness", func() error { m.ending.Store(true); return nil })
	log.Info("serving metrics", "listen", m.server.Addr().String())
	return m, nil
}

func (m *metered) ready() error {
	if m.ending.Load() {
		return errors.New("ending")
	}
	return m.watch.pipeline.Stats.Alive()
}

// confined says what the sensor gave up.
func (m *metered) confined(r confine.Report) {
	if m != nil {
		m.holds.Store(&r)
	}
}

// A measure is one metric.
type measure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) measure {
	return measure{prometheus.NewDesc("sheetbend_"+name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) measure {
	return measure{prometheus.NewDesc("sheetbend_"+name, help, labels, nil), prometheus.GaugeValue}
}

var (
	mRecords = counter("records_total", "Records taken by the collector, by kind.", "kind")
	mLost    = counter("records_lost_total",
		"Records that could not be delivered or were dropped by the collector, by kind and cause; as told by "+
			"sensor.loss spans.", "kind", "cause")
	mLostIn = counter("sandbox_records_lost_total",
		"The same by sandbox: the first 64 that lose any, the others as one.", "sandbox")
	mNotInject = counter("records_not_injected_total",
		"Records of markers, containers and agents' telemetry that were not taken because too many waited.")
	mHookRuns = counter("hook_runs_total",
		"Runs of the kernel's programs, while kernel.bpf_stats_enabled is set.", "program")
	mHookTime  = counter("hook_seconds_total", "Time that these runs took.", "program")
	mKernel    = gauge("kernel_memory_bytes", "Memory of the kernel side's tables, the ring buffer included.")
	mMalformed = counter("records_malformed_total", "Records that could not be decoded.")
	mRingUsed  = gauge("ring_used_bytes", "Bytes that wait in the ring buffer.")
	mRingSize  = gauge("ring_size_bytes", "Size of the ring buffer.")
	mPinned    = gauge("pinned", "1 while what is in the kernel outlives this process.")
	mBacklog   = gauge("resumed_backlog_bytes", "Bytes of records that waited in the kernel when this process started.")
	mGap       = gauge("resumed_gap_seconds", "How long nobody had read them then, give or take a second.")
	mResumed   = gauge("resumed_records", "Entries of the journal that this process began with.")
	mJournal   = gauge("journal_bytes", "Size of the journal.")
	mDropped   = gauge("journal_dropped_bytes",
		"Size of the journal before that could not be used: of another version or boot, or not of the last process.")
	mOverflow = counter("journal_overflows_total",
		"Times that something was left out of the journal that the next process could need: it was full, or a "+
			"record too long.")
	mStarts = counter("pinned_starts_total",
		"Processes that have read what is pinned in the kernel, this one included.")
	mRepeats = counter("upgrade_repeats_total",
		"Records that may have come twice, as the sensor before had hooks then, too.")
	mSpans     = counter("spans_total", "Spans made; the last sheetbend.seq.")
	mEvicted   = counter("processes_evicted_total", "Live processes forgotten because limits.processes was reached.")
	mRefused   = counter("cgroups_refused_total", "Cgroups not watched because limits.cgroups was reached.")
	mSandboxes = gauge("sandboxes", "Live sandboxes.")
	mCgroups   = gauge("cgroups", "Watched cgroups.")
	mProcesses = gauge("processes", "Live watched processes.")
	mAgents    = gauge("agents", "Live agents.")
	mSessions  = gauge("sessions", "Sessions in which a program runs; the newest 512 are looked at.")
	mHeld      = gauge("spans_held", "Spans that wait, at most for the hold, or for what agents report.")
	mRunning   = gauge("spans_running", "Spans of programs, calls and connects that go on and have had their notice.")
	mEarly     = counter("spans_early_total", "Spans sent before their end because too many waited.")
	mWords     = counter("container_words_total",
		"What became of the questions and answers about containers: told; unknown to every runtime; refused and "+
			"not_taken, as too many waited; unfollowed and unreadable, pods whose labels may change unseen.", "outcome")
	mRequests = counter("intake_requests_total",
		"Requests of agents' telemetry: taken, or why they were refused (docs/telemetry.md).", "outcome")
	mFactsLost = counter("intake_facts_lost_total", "Events in agents' telemetry that were not read: too many at once.")
	mWatches   = counter("watches_total", "Commands that users asked to have watched, by outcome: opened or refused.",
		"outcome")
	mWatchesLost = counter("watches_spans_dropped_total", "Spans that no client of a watch got: it read too slowly.")
	mTick        = gauge("last_read_timestamp_seconds", "When the ring was last read.")

	mConfined = gauge("confined",
		"1 for what the sensor gave up after its start; 0 if nothing (docs/security.md).",
		"capabilities", "no_new_privs", "seccomp", "landlock")

	mTooLarge = counter("encode_too_large_total", "Spans dropped because one alone was too large.")
	mFile     = counter("file_spans_total", "Spans of the file exporter, by outcome.", "outcome")
	mExported = counter("export_spans_total",
		"Spans of an OTLP endpoint, by outcome: all but sent and set_aside are lost.", "endpoint", "outcome")
	mOffered = counter("export_offered_spans_total",
		"Spans that an OTLP endpoint is to get, those found in the spool at the start included.", "endpoint")
	mQueued  = gauge("export_queued_spans", "Spans that wait for an OTLP endpoint.", "endpoint")
	mQueuedB = gauge("export_queued_bytes", "Bytes that wait for an OTLP endpoint.", "endpoint")
	mOldest  = gauge("export_oldest_seconds",
		"Age of the batch that waits longest for an OTLP endpoint; 0 if none does.", "endpoint")
	mAttempts = counter("export_attempts_total", "Requests to an OTLP endpoint.", "endpoint")
	mErrors   = counter("export_errors_total", "Requests to an OTLP endpoint that failed.", "endpoint")
	mSeconds  = counter("export_seconds_total", "Time that requests took which did not fail.", "endpoint")
	mStored   = gauge("spool_stored_bytes", "Bytes of batches in the spool's file.")
	mMemory   = gauge("spool_memory_bytes",
		"Bytes of batches that wait in memory: for the disk, or without a spool for endpoints.")
	mFailing   = gauge("spool_failing", "1 while the spool's disk does not take what is written.")
	mDamaged   = counter("spool_damaged_files_total", "Spool files set aside because they were damaged.")
	mDeadDrops = counter("spool_dead_letters_dropped_spans_total",
		"Spans of dead letters dropped because there was no more room.")
	mEvents = counter("export_events_total",
		"Security events for an OTLP endpoint, by outcome: all but sent, set_aside and unsupported are lost.",
		"endpoint", "outcome")
	mEventsQueued = gauge("export_queued_events", "Security events that wait for an OTLP endpoint.", "endpoint")
	mRecorded     = counter("recorder_spans_total",
		"Spans of the flight recorder: written; not written, because the disk was too slow (slow), did not take them "+
			"(disk_fails) or the sensor ended (shutdown); and recorded ones that are gone: of who had more than a share "+
			"(evicted), as they were too old (too_old), as somebody removed them (removed).", "outcome")
	mRecordings    = gauge("recorder_recordings", "Recordings that are kept.")
	mRecorderBytes = gauge("recorder_bytes", "What they count for; recorder.max_bytes bounds it.")
	mRecorderFails = gauge("recorder_failing", "1 while the recorder's disk does not take what is written.")
	mRecorderTorn  = counter("recorder_torn_bytes_total",
		"Bytes cut off at the start, as a kill had left them half written.")
	mRecorderBroken = gauge("recorder_unreadable_files",
		"Recordings found at the start that are damaged, or newer than this version.")

	mPassedOn = counter("passed_on_requests_total",
		"Requests of agents' telemetry for an OTLP endpoint, by signal and outcome: all but sent and unsupported are "+
			"lost.", "endpoint", "signal", "outcome")
	mPassedOnB = gauge("passed_on_queued_bytes",
		"Bytes of agents' telemetry that wait for an OTLP endpoint.", "endpoint", "signal")
)

// Describe implements prometheus.Collector: what there is, each scrape says.
func (*metered) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *metered) Collect(out chan<- prometheus.Metric) {
	put := func(what measure, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(what.desc, what.kind, v, labels...)
	}
	if r := m.holds.Load(); r != nil {
		put(mConfined, 1, r.Capabilities.String(), strconv.FormatBool(r.NoNewPrivs), strconv.FormatBool(r.Seccomp),
			strconv.Itoa(r.Landlock))
	} else {
		put(mConfined, 0, "all", "false", "false", "0")
	}
	m.collectWatch(put)
	m.collectOutputs(put)
	if m.intake != nil {
		s := m.intake.in.Stats()
		putOutcomes(put, mRequests, map[string]uint64{
			"taken": s.Requests, "too_large": s.TooLarge, "malformed": s.Malformed, "busy": s.Busy,
			"foreign": s.Foreign, "forged": s.Forged, "inside": s.Inside,
		})
		put(mFactsLost, float64(s.FactsLost))
	}
}

// putOutcomes adds the outcome as the last label.
func putOutcomes(
	put func(what measure, v float64, labels ...string), what measure, n map[string]uint64, labels ...string,
) {
	for outcome, n := range n {
		put(what, float64(n), slices.Concat(labels, []string{outcome})...)
	}
}

func (m *metered) collectWatch(put func(what measure, v float64, labels ...string)) {
	w := m.watch
	w.pipeline.Stats.Records(func(t record.Type, n uint64) { put(mRecords, float64(n), t.String()) })
	pins := w.sensor.Pins()
	put(mPinned, map[bool]float64{true: 1}[pins.Dir != ""])
	put(mStarts, float64(pins.Starts))
	put(mBacklog, float64(pins.Backlog))
	put(mGap, pins.Gap.Seconds())
	put(mRepeats, float64(w.sensor.Repeats()))
	put(mResumed, float64(w.resumed))
	put(mDropped, float64(w.dropped))
	if st, err := os.Stat(w.journal); err == nil {
		put(mJournal, float64(st.Size()))
	}
	byKind, bySandbox := w.pipeline.Stats.Losses()
	for _, l := range byKind {
		put(mLost, float64(l.Count), l.Kind, l.Cause)
	}
	for _, l := range bySandbox {
		put(mLostIn, float64(l.Count), l.Sandbox)
	}
	if runs, err := w.sensor.ProgramRuns(); err == nil {
		for _, r := range runs {
			put(mHookRuns, float64(r.Runs), r.Program)
			put(mHookTime, r.Time.Seconds(), r.Program)
		}
	}
	if n, err := w.sensor.Memory(); err == nil {
		put(mKernel, float64(n))
	}
	put(mNotInject, float64(w.pipeline.Feed.NotInjected()))
	put(mOverflow, float64(w.pipeline.JournalOverflows()))
	used, size := w.sensor.RingFill()
	put(mRingUsed, float64(used))
	put(mRingSize, float64(size))
	s := w.pipeline.Stats.Collector()
	put(mMalformed, float64(s.Malformed))
	put(mSpans, float64(s.Spans))
	put(mEvicted, float64(s.EvictedProcesses))
	put(mRefused, float64(s.RefusedCgroups))
	if w.users != nil {
		n := w.users.stats()
		putOutcomes(put, mWatches, map[string]uint64{"opened": n.opened, "refused": n.refused})
		put(mWatchesLost, float64(w.users.hub.Dropped()))
	}
	if w.runtimes != nil {
		r := w.runtimes.resolver.Stats()
		putOutcomes(put, mWords, map[string]uint64{
			"told": r.Reported, "unknown": r.Unknown, "refused": r.Refused, "not_taken": r.NotTaken,
			"unfollowed": r.Unfollowed, "unreadable": r.Unreadable,
		})
	}
	put(mSandboxes, float64(s.Sandboxes))
	put(mCgroups, float64(s.Cgroups))
	put(mProcesses, float64(s.Processes))
	put(mAgents, float64(s.Agents))
	put(mHeld, float64(s.Held-s.Running))
	put(mRunning, float64(s.Running))
	put(mEarly, float64(s.EarlySpans))
	put(mTick, float64(w.pipeline.Stats.LastRead().UnixNano())/1e9)
	running := 0
	for _, session := range m.view.List(uint32(os.Geteuid())) {
		if session.Processes > 0 {
			running++
		}
	}
	put(mSessions, float64(running))
}

func (m *metered) collectOutputs(put func(what measure, v float64, labels ...string)) {
	o := m.out
	put(mTooLarge, float64(o.tooLarge()))
	if o.file != nil {
		s := o.file.Stats()
		put(mFile, float64(s.Written), "written")
		put(mFile, float64(s.Dropped), "dropped")
	}
	if o.recorder != nil {
		s := o.recorder.Stats()
		putOutcomes(put, mRecorded, map[string]uint64{
			"written": s.Written, "slow": s.Slow, "disk_fails": s.Disk, "shutdown": s.Shutdown,
			"evicted": s.EvictedSize, "too_old": s.EvictedAge, "removed": s.Removed,
		})
		put(mRecordings, float64(s.Recordings))
		put(mRecorderBytes, float64(s.Bytes))
		put(mRecorderFails, map[bool]float64{true: 1}[s.Failing])
		put(mRecorderTorn, float64(s.TornBytes))
		put(mRecorderBroken, float64(s.DamagedFiles+s.NewerFiles))
	}
	if o.backends == nil {
		return
	}
	s := o.backends.Stats()
	for _, l := range s.Lanes {
		outcomes := map[string]uint64{
			"sent": l.Sent, "rejected": l.Rejected, "set_aside": l.SetAside, "refused": l.Failed,
			"memory_full": l.Dropped.Memory, "disk_fails": l.Dropped.Disk, "spool_full": l.Dropped.Size,
			"too_old": l.Dropped.Age, "damaged": l.Dropped.Damage, "shutdown": l.Dropped.Shutdown,
			"earlier_run": l.Lost, "too_large": l.Dropped.TooLarge,
		}
		if l.PassedOn {
			outcomes["unsupported"] = l.Unsupported
			putOutcomes(put, mPassedOn, outcomes, l.Endpoint, l.Signal.String())
			put(mPassedOnB, float64(l.QueuedBytes), l.Endpoint, l.Signal.String())
			continue
		}
		if l.Signal == otlp.Logs {
			outcomes["unsupported"] = l.Unsupported
			putOutcomes(put, mEvents, outcomes, l.Endpoint)
			put(mEventsQueued, float64(l.Queued), l.Endpoint)
			continue
		}
		putOutcomes(put, mExported, outcomes, l.Endpoint)
		put(mOffered, float64(l.Resumed+l.Offered), l.Endpoint)
		put(mQueued, float64(l.Queued), l.Endpoint)
		put(mQueuedB, float64(l.QueuedBytes), l.Endpoint)
		age := 0.0
		if !l.Oldest.IsZero() {
			age = time.Since(l.Oldest).Seconds()
		}
		put(mOldest, age, l.Endpoint)
		put(mAttempts, float64(l.Attempts), l.Endpoint)
		put(mErrors, float64(l.Errors), l.Endpoint)
		put(mSeconds, l.Took.Seconds(), l.Endpoint)
	}
	put(mMemory, float64(s.MemoryBytes))
	if o.backends.dir == "" {
		return
	}
	put(mStored, float64(s.StoredBytes))
	put(mFailing, map[bool]float64{true: 1}[s.Failing])
	put(mDamaged, float64(s.DamagedFiles))
	put(mDeadDrops, float64(s.DeadDropped))
}

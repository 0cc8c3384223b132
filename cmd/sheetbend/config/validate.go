// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// mistakes collects what is wrong, key by key.
type mistakes []error

func (m *mistakes) add(format string, args ...any) { *m = append(*m, fmt.Errorf(format, args...)) }

func (m *mistakes) within(key string, v, low, high int64) {
	if v < low || v > high {
		m.add("%s is %d, outside of %d to %d", key, v, low, high)
	}
}

func (m *mistakes) lasts(key string, d Duration, low, high time.Duration) {
	if v := time.Duration(d); v < low || v > high {
		m.add("%s is %s, outside of %s to %s", key, v, low, high)
	}
}

func (m *mistakes) oneOf(key, v string, values ...string) {
	if !slices.Contains(values, v) {
		m.add("%s is %q, not one of %s", key, v, strings.Join(values, ", "))
	}
}

// absolute takes an absolute path, "", and the word that stands for no path if there is one.
func (m *mistakes) absolute(key, path, none string) {
	switch {
	case path == "" || path == none || strings.HasPrefix(path, "/"):
	case none == "":
		m.add("%s is %q, not an absolute path", key, path)
	default:
		m.add("%s is %q, neither an absolute path nor %s", key, path, none)
	}
}

// Validate says what is wrong. The patterns of noise and sensitive are left to the collector.
func (c *Config) Validate() error {
	var m mistakes
	dialects := agents.Merge(agents.Builtin(), c.Agents)
	c.validateSandboxes(&m, dialects)
	if err := agents.Validate(dialects); err != nil {
		m.add("agents: %w", err)
	}
	c.validateDelivery(&m)
	m.within("intake.max_message", int64(c.Intake.MaxMessage), 64<<10, 16<<20)
	m.lasts("hold", c.Hold, 100*time.Millisecond, time.Minute)
	m.lasts("call_retention", c.CallRetention, time.Second, 24*time.Hour)
	for _, n := range []struct {
		key   string
		value int
		most  int64
	}{
		{"fold.files", c.Fold.Files, 1 << 20},
		{"fold.call_files", c.Fold.CallFiles, 1 << 20},
		{"fold.directories", c.Fold.Directories, 1 << 16},
		{"fold.missing", c.Fold.Missing, 1 << 20},
		{"fold.creates", c.Fold.Creates, 1 << 20},
	} {
		if n.value != 0 { // as the command has it
			m.within(n.key, int64(n.value), 1, n.most)
		}
	}
	m.lasts("fold.window", c.Fold.Window, time.Second, 24*time.Hour)
	m.within("trace.max_spans", int64(c.Trace.MaxSpans), 10, 1_000_000)
	m.within("trace.max_bytes", int64(c.Trace.MaxBytes), 64<<10, 1<<30)
	m.oneOf("trace.join", c.Trace.Join, JoinAuto, JoinAlways, JoinNever)
	if c.SpanNames != "" {
		m.oneOf("span_names", c.SpanNames, NamesContract, NamesVerbs, NamesReadable)
	}
	m.within("limits.ring_bytes", int64(c.Limits.RingBytes), 256<<10, 1<<30)
	if c.Limits.SandboxRingBytes != 0 {
		m.within("limits.sandbox_ring_bytes", int64(c.Limits.SandboxRingBytes), 32<<10, 1<<30)
	}
	m.within("limits.cgroups", int64(c.Limits.Cgroups), 16, 1<<20)
	m.within("limits.processes", int64(c.Limits.Processes), 256, 1<<22)
	m.oneOf("open_hook", c.OpenHook, HookAuto, HookTrampoline, HookTracepoint)
	m.sockets("containers.cri", c.Containers.CRI)
	m.sockets("containers.docker", c.Containers.Docker)
	m.absolute("containers.kubelet", c.Containers.Kubelet, "")
	m.absolute("socket", c.Socket, "")
	m.within("watches.max_per_user", int64(c.Watches.MaxPerUser), 0, 256)
	m.absolute("pin_path", c.PinPath, "")
	m.absolute("journal", c.Journal, NoJournal)
	m.within("limits.journal_bytes", int64(c.Limits.JournalBytes), 16<<20, 4<<30)
	if c.Metrics.Listen == "" && (c.Metrics.Pprof || c.Metrics.Expose) {
		m.add("metrics.listen is missing: without it nothing is served")
	}
	m.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	m.oneOf("log.format", c.Log.Format, FormatText, FormatJSON)
	return errors.Join(m...)
}

func (c *Config) validateSandboxes(m *mistakes, dialects []agents.Dialect) {
	seen := map[string]int{}
	for i, s := range c.Sandboxes {
		others := s.Cgroup != "" || s.Kubernetes != nil || s.Docker != nil || s.Session != "" || s.Agent != ""
		switch {
		case len(s.Agents) > 0 && others:
			m.add("sandboxes[%d].agents stands alone: put the others into an entry of their own", i)
		case len(s.Session) > 256 || len(s.Agent) > 256:
			m.add("sandboxes[%d]: session and agent are at most 256 bytes long", i)
		}
		switch {
		case len(s.Agents) > 0:
			for _, name := range s.Agents {
				if name != collector.AllAgents && agents.Find(dialects, name) == nil {
					m.add("sandboxes[%d].agents: %q is no agent's name; \"*\" stands for all that are known: %s",
						i, name, strings.Join(names(dialects), ", "))
				}
			}
		case s.Kubernetes != nil || s.Docker != nil:
			if s.Cgroup != "" || s.Kubernetes != nil && s.Docker != nil {
				m.add("sandboxes[%d] has more than one of cgroup, kubernetes and docker: "+
					"make them entries of their own", i)
			}
			if len(c.Containers.CRI)+len(c.Containers.Docker) == 0 {
				m.add("sandboxes[%d]: containers.cri and containers.docker are empty, "+
					"so nobody tells which containers these are", i)
			}
		case s.Cgroup == "":
			m.add("sandboxes[%d] says not what to watch: cgroup, kubernetes, docker or agents", i)
		default:
			if _, err := cgroup.ParseGlob(s.Cgroup); err != nil {
				m.add("sandboxes[%d].cgroup: %w", i, err)
			}
			if first, ok := seen[s.Cgroup]; ok {
				m.add("sandboxes[%d].cgroup is the same as sandboxes[%d].cgroup", i, first)
			}
			seen[s.Cgroup] = i
		}
	}
}

// validateDelivery is about exporters and spool.
func (c *Config) validateDelivery(m *mistakes) {
	for i, o := range c.Exporters.OTLP {
		key := "exporters.otlp"
		if len(c.Exporters.OTLP) > 1 {
			key = fmt.Sprintf("exporters.otlp[%d]", i)
			if o.Endpoint == "" {
				m.add("%s.endpoint is missing", key)
			}
		}
		if o.Timeout != 0 {
			m.lasts(key+".timeout", o.Timeout, 100*time.Millisecond, 10*time.Minute)
		}
		if o.Protocol != "" {
			m.oneOf(key+".protocol", o.Protocol, "grpc", "http/protobuf")
		}
		if o.Compression != "" {
			m.oneOf(key+".compression", o.Compression, "gzip", "none")
		}
		if len(o.Signals) == 0 {
			m.add("%s.signals is empty: it can have %s and %s", key, SignalTraces, SignalLogs)
		}
		for _, s := range o.Signals {
			m.oneOf(key+".signals", s, SignalTraces, SignalLogs)
		}
		if c.Exporters.OTLPMode == ModeFailOver && !slices.Equal(o.Signals, c.Exporters.OTLP[0].Signals) {
			m.add("%s.signals has to be as that of the others: with fail-over any of them gets all", key)
		}
		m.within(key+".queue.bytes", int64(o.Queue.Bytes), 1<<20, 8<<30)
		m.within(key+".queue.spans", int64(o.Queue.Spans), 512, 100_000_000)
		if (o.TLS.Cert == "") != (o.TLS.Key == "") {
			m.add("%s.tls.cert and %s.tls.key only work together: set both or none", key, key)
		}
	}
	if n := len(c.Exporters.OTLP); n > MaxEndpoints {
		m.add("exporters.otlp has %d endpoints, more than %d", n, MaxEndpoints)
	}
	m.oneOf("exporters.otlp_mode", c.Exporters.OTLPMode, ModeFanOut, ModeFailOver)
	m.absolute("spool.path", c.Spool.Path, NoSpool)
	m.within("spool.max_bytes", int64(c.Spool.MaxBytes), 32<<20, 1<<40)
	m.lasts("spool.max_age", c.Spool.MaxAge, time.Minute, 365*24*time.Hour)
	m.oneOf("spool.passed_on", c.Spool.PassedOn, PassedOnDisk, PassedOnMemory)
	m.oneOf("spool.sync", c.Spool.Sync, "batch", "interval", "none")
	m.absolute("recorder.path", c.Recorder.Path, NoRecorder)
	m.within("recorder.max_bytes", int64(c.Recorder.MaxBytes), 16<<20, 1<<40)
	m.lasts("recorder.max_age", c.Recorder.MaxAge, time.Minute, 365*24*time.Hour)
	m.within("spool.dead_letters", int64(c.Spool.DeadLetters), 2<<20, 1<<40)
}

// sockets are those of container runtimes.
func (m *mistakes) sockets(key string, paths []string) {
	if len(paths) > 16 {
		m.add("%s has %d sockets, at most 16 are allowed", key, len(paths))
	}
	for _, s := range paths {
		if s != BuiltIn && !strings.HasPrefix(s, "/") {
			m.add("%s: %q is not an absolute path, nor %q", key, s, BuiltIn)
		}
	}
}

func names(ds []agents.Dialect) (list []string) {
	for i := range ds {
		list = append(list, ds[i].Name)
	}
	return list
}

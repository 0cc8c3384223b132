// SPDX-License-Identifier: Apache-2.0

// Package config is the configuration file: its keys, defaults and checks. Flags of the
// commands are laid over it by them.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

// Config is the whole file. Every key is documented in docs/configuration.md.
type Config struct {
	Sandboxes []Sandbox `yaml:"sandboxes"`
	Exporters Exporters `yaml:"exporters"`
	Spool     Spool     `yaml:"spool"`
	Metrics   Metrics   `yaml:"metrics"`
	// Agents are put over the built-in dialects, by name.
	Agents          []agents.Dialect `yaml:"agents"`
	Intake          Intake           `yaml:"intake"`
	Containers      Containers       `yaml:"containers"`
	Socket          string           `yaml:"socket"`
	Hold            Duration         `yaml:"hold"`
	CallRetention   Duration         `yaml:"call_retention"`
	Noise           []string         `yaml:"noise"`
	Sensitive       []string         `yaml:"sensitive"`
	Fold            Fold             `yaml:"fold"`
	Trace           Trace            `yaml:"trace"`
	SpanNames       string           `yaml:"span_names"`
	MaskCredentials bool             `yaml:"mask_credentials"`
	Confine         bool             `yaml:"confine"`
	Limits          Limits           `yaml:"limits"`
	OpenHook        string           `yaml:"open_hook"`
	Pin             bool             `yaml:"pin"`
	PinPath         string           `yaml:"pin_path"`
	Journal         string           `yaml:"journal"`
	CompatCalls     bool             `yaml:"compat_calls"`
	Log             Log              `yaml:"log"`
}

// Sandbox selects cgroups or containers, by one of the first three, and says whose they are; or, with Agents alone, agents
// wherever they are started.
type Sandbox struct {
	Cgroup     string      `yaml:"cgroup"`
	Kubernetes *Kubernetes `yaml:"kubernetes"`
	Docker     *Docker     `yaml:"docker"`
	Session    string      `yaml:"session"`
	Agent      string      `yaml:"agent"`
	Agents     []string    `yaml:"agents"`
}

// Kubernetes selects containers of pods on this node. All that is given has to hold; of a list one.
type Kubernetes struct {
	Namespaces      []string          `yaml:"namespaces"`
	Labels          map[string]string `yaml:"labels"`
	Annotations     map[string]string `yaml:"annotations"`
	Containers      []string          `yaml:"containers"`
	RuntimeHandlers []string          `yaml:"runtime_handlers"`
}

// Docker selects containers of Docker and Podman.
type Docker struct {
	Names  []string          `yaml:"names"`
	Labels map[string]string `yaml:"labels"`
}

// Selector is what the collector and the kernel side go by.
func (s Sandbox) Selector() (collector.Selector, error) {
	out := collector.Selector{Session: s.Session, Agent: s.Agent, Agents: s.Agents}
	switch {
	case len(s.Agents) > 0:
	case s.Kubernetes != nil:
		k := s.Kubernetes
		out.Container = &collector.ContainerSelector{Kubernetes: true, Namespaces: k.Namespaces, Handlers: k.RuntimeHandlers, Containers: k.Containers, Labels: k.Labels, Annotations: k.Annotations}
	case s.Docker != nil:
		out.Container = &collector.ContainerSelector{Containers: s.Docker.Names, Labels: s.Docker.Labels}
	default:
		g, err := cgroup.ParseGlob(s.Cgroup)
		if err != nil {
			return out, err
		}
		out.Cgroup = g.String()
	}
	return out, nil
}

// Containers are the container runtimes of the host that are asked what they run: paths of unix sockets. BuiltIn
// stands for the places where they usually are.
type Containers struct {
	CRI    []string `yaml:"cri"`
	Docker []string `yaml:"docker"`
	// Kubelet is its directory, in which labels and annotations of pods are that change.
	Kubelet string `yaml:"kubelet"`
}

// Exporters are where spans go.
type Exporters struct {
	OTLP     OTLPs  `yaml:"otlp"`
	OTLPMode string `yaml:"otlp_mode"`
	File     File   `yaml:"file"`
}

// File is the exporter that writes the OTLP File Exporter format.
type File struct {
	Path string `yaml:"path"`
}

// Intake takes in the telemetry that agents send of themselves. Without an address and a socket
// there is none.
type Intake struct {
	Listen     string  `yaml:"listen"`
	Unix       string  `yaml:"unix"`
	Expose     bool    `yaml:"expose"`
	MaxMessage Size    `yaml:"max_message"`
	Forward    Forward `yaml:"forward"`
}

// Forward says where that telemetry goes on to: to the OTLP backend of the spans unless HTTP is set.
type Forward struct {
	Enabled    bool   `yaml:"enabled"`
	HTTP       string `yaml:"http"`
	QueueBytes Size   `yaml:"queue_bytes"`
}

// Fold bounds the spans of a process that reads many files.
type Fold struct {
	Files       int      `yaml:"files"`
	Window      Duration `yaml:"window"`
	Directories int      `yaml:"directories"`
}

// Trace bounds traces, and says whether those of calls join the agents' own.
type Trace struct {
	MaxSpans int      `yaml:"max_spans"`
	Slice    Duration `yaml:"slice"`
	Join     string   `yaml:"join"`
}

// Limits bound memory.
type Limits struct {
	RingBytes Size `yaml:"ring_bytes"`
	// SandboxRingBytes is what one sandbox may have of the ring while others need it; 0: half, where there are others.
	SandboxRingBytes Size `yaml:"sandbox_ring_bytes"`
	Cgroups          int  `yaml:"cgroups"`
	Processes        int  `yaml:"processes"`
	// JournalBytes is how large the journal may become.
	JournalBytes Size `yaml:"journal_bytes"`
}

// Log is the sensor's own log on stderr.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// The values of span_names, trace.join, open_hook, exporters.otlp_mode and log.format.
const (
	NamesContract = "contract"
	NamesReadable = "readable"

	JoinAuto   = "auto"
	JoinAlways = "always"
	JoinNever  = "never"

	HookAuto       = "auto"
	HookTrampoline = "trampoline"
	HookTracepoint = "tracepoint"

	ModeFanOut   = "fan-out"
	ModeFailOver = "fail-over"

	// NoJournal is the Journal of those who want none.
	NoJournal = "none"

	FormatText = "text"
	FormatJSON = "json"
)

// BuiltIn stands, in the lists noise and sensitive, for the built-in list.
const BuiltIn = "default"

// Default is the configuration of an empty file.
func Default() *Config {
	return &Config{
		Exporters:       Exporters{OTLP: OTLPs{defaultOTLP()}, OTLPMode: ModeFanOut},
		Spool:           defaultSpool(),
		Intake:          Intake{MaxMessage: 8 << 20, Forward: Forward{Enabled: true, QueueBytes: 32 << 20}},
		Containers:      Containers{CRI: []string{BuiltIn}, Docker: []string{BuiltIn}, Kubelet: "/var/lib/kubelet"},
		Hold:            Duration(2 * time.Second),
		CallRetention:   Duration(10 * time.Minute),
		Noise:           []string{BuiltIn},
		Sensitive:       []string{BuiltIn},
		Socket:          client.DefaultSocket,
		Fold:            Fold{Files: 200, Window: Duration(time.Minute), Directories: 64},
		Trace:           Trace{MaxSpans: 4000, Slice: Duration(time.Hour), Join: JoinAuto},
		SpanNames:       NamesContract,
		MaskCredentials: true,
		Confine:         true,
		Limits:          Limits{RingBytes: 8 << 20, Cgroups: 16384, Processes: 65536, JournalBytes: 64 << 20},
		OpenHook:        HookAuto,
		Pin:             true,
		Log:             Log{Level: "info", Format: FormatText},
	}
}

// Validate says what is wrong, key by key. What the patterns of noise and sensitive may
// be, the collector knows.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	seen := map[string]int{}
	dialects := agents.Merge(agents.Builtin(), c.Agents)
	for i, s := range c.Sandboxes {
		if len(s.Agents) > 0 {
			if s.Cgroup != "" || s.Kubernetes != nil || s.Docker != nil || s.Session != "" || s.Agent != "" {
				bad("sandboxes[%d].agents stands alone: put the others into an entry of their own", i)
			}
			for _, name := range s.Agents {
				if name != collector.AllAgents && agents.Find(dialects, name) == nil {
					bad("sandboxes[%d].agents: %q is no agent's name; \"*\" stands for all that are known: %s", i, name, strings.Join(names(dialects), ", "))
				}
			}
			continue
		}
		if len(s.Session) > 256 || len(s.Agent) > 256 {
			bad("sandboxes[%d]: session and agent are at most 256 bytes long", i)
		}
		if s.Kubernetes != nil || s.Docker != nil {
			if s.Cgroup != "" || s.Kubernetes != nil && s.Docker != nil {
				bad("sandboxes[%d] has more than one of cgroup, kubernetes and docker: make them entries of their own", i)
			}
			if len(c.Containers.CRI)+len(c.Containers.Docker) == 0 {
				bad("sandboxes[%d]: containers.cri and containers.docker are empty, so nobody tells which containers these are", i)
			}
			continue
		}
		if s.Cgroup == "" {
			bad("sandboxes[%d] says not what to watch: cgroup, kubernetes, docker or agents", i)
			continue
		}
		if _, err := cgroup.ParseGlob(s.Cgroup); err != nil {
			bad("sandboxes[%d].cgroup: %w", i, err)
		}
		if first, ok := seen[s.Cgroup]; ok {
			bad("sandboxes[%d].cgroup is the same as sandboxes[%d].cgroup", i, first)
		}
		seen[s.Cgroup] = i
	}
	within := func(key string, v, low, high int64) {
		if v < low || v > high {
			bad("%s is %d, outside of %d to %d", key, v, low, high)
		}
	}
	lasts := func(key string, d Duration, low, high time.Duration) {
		if v := time.Duration(d); v < low || v > high {
			bad("%s is %s, outside of %s to %s", key, v, low, high)
		}
	}
	oneOf := func(key, v string, values ...string) {
		for _, ok := range values {
			if v == ok {
				return
			}
		}
		bad("%s is %q, not one of %s", key, v, strings.Join(values, ", "))
	}
	if err := agents.Validate(dialects); err != nil {
		bad("agents: %w", err)
	}
	for i, o := range c.Exporters.OTLP {
		key := "exporters.otlp"
		if len(c.Exporters.OTLP) > 1 {
			key = fmt.Sprintf("exporters.otlp[%d]", i)
			if o.Endpoint == "" {
				bad("%s.endpoint is missing", key)
			}
		}
		if o.Timeout != 0 {
			lasts(key+".timeout", o.Timeout, 100*time.Millisecond, 10*time.Minute)
		}
		within(key+".queue.bytes", int64(o.Queue.Bytes), 1<<20, 8<<30)
		within(key+".queue.spans", int64(o.Queue.Spans), 512, 100_000_000)
		if (o.TLS.Cert == "") != (o.TLS.Key == "") {
			bad("%s.tls.cert and %s.tls.key only work together: set both or none", key, key)
		}
	}
	if n := len(c.Exporters.OTLP); n > MaxEndpoints {
		bad("exporters.otlp has %d endpoints, more than %d", n, MaxEndpoints)
	}
	oneOf("exporters.otlp_mode", c.Exporters.OTLPMode, ModeFanOut, ModeFailOver)
	if p := c.Spool.Path; p != "" && p != NoSpool && !strings.HasPrefix(p, "/") {
		bad("spool.path is %q, neither an absolute path nor %s", p, NoSpool)
	}
	within("spool.max_bytes", int64(c.Spool.MaxBytes), 32<<20, 1<<40)
	lasts("spool.max_age", c.Spool.MaxAge, time.Minute, 365*24*time.Hour)
	oneOf("spool.sync", c.Spool.Sync, "batch", "interval", "none")
	within("spool.dead_letters", int64(c.Spool.DeadLetters), 2<<20, 1<<40)
	within("intake.max_message", int64(c.Intake.MaxMessage), 64<<10, 16<<20)
	within("intake.forward.queue_bytes", int64(c.Intake.Forward.QueueBytes), 1<<20, 8<<30)
	lasts("hold", c.Hold, 100*time.Millisecond, time.Minute)
	lasts("call_retention", c.CallRetention, time.Second, 24*time.Hour)
	within("fold.files", int64(c.Fold.Files), 1, 1<<20)
	lasts("fold.window", c.Fold.Window, time.Second, 24*time.Hour)
	within("fold.directories", int64(c.Fold.Directories), 1, 1<<16)
	within("trace.max_spans", int64(c.Trace.MaxSpans), 10, 1_000_000)
	lasts("trace.slice", c.Trace.Slice, time.Minute, 30*24*time.Hour)
	oneOf("trace.join", c.Trace.Join, JoinAuto, JoinAlways, JoinNever)
	oneOf("span_names", c.SpanNames, NamesContract, NamesReadable)
	within("limits.ring_bytes", int64(c.Limits.RingBytes), 256<<10, 1<<30)
	if c.Limits.SandboxRingBytes != 0 {
		within("limits.sandbox_ring_bytes", int64(c.Limits.SandboxRingBytes), 32<<10, 1<<30)
	}
	within("limits.cgroups", int64(c.Limits.Cgroups), 16, 1<<20)
	within("limits.processes", int64(c.Limits.Processes), 256, 1<<22)
	oneOf("open_hook", c.OpenHook, HookAuto, HookTrampoline, HookTracepoint)
	for key, sockets := range map[string][]string{"containers.cri": c.Containers.CRI, "containers.docker": c.Containers.Docker} {
		if len(sockets) > 16 {
			bad("%s has %d sockets, at most 16 are allowed", key, len(sockets))
		}
		for _, s := range sockets {
			if s != BuiltIn && !strings.HasPrefix(s, "/") {
				bad("%s: %q is not an absolute path, nor %q", key, s, BuiltIn)
			}
		}
	}
	if k := c.Containers.Kubelet; k != "" && !strings.HasPrefix(k, "/") {
		bad("containers.kubelet is %q, not an absolute path", k)
	}
	if c.Socket != "" && !strings.HasPrefix(c.Socket, "/") {
		bad("socket is %q, not an absolute path", c.Socket)
	}
	if c.PinPath != "" && !strings.HasPrefix(c.PinPath, "/") {
		bad("pin_path is %q, not an absolute path", c.PinPath)
	}
	if j := c.Journal; j != "" && j != NoJournal && !strings.HasPrefix(j, "/") {
		bad("journal is %q, neither an absolute path nor %s", j, NoJournal)
	}
	within("limits.journal_bytes", int64(c.Limits.JournalBytes), 16<<20, 4<<30)
	if c.Metrics.Listen == "" && (c.Metrics.Pprof || c.Metrics.Expose) {
		bad("metrics.listen is missing: without it nothing is served")
	}
	if _, err := c.Log.SlogLevel(); err != nil {
		errs = append(errs, err)
	}
	oneOf("log.format", c.Log.Format, FormatText, FormatJSON)
	return errors.Join(errs...)
}

func names(ds []agents.Dialect) (list []string) {
	for i := range ds {
		list = append(list, ds[i].Name)
	}
	return list
}

// SlogLevel is the level as slog knows it.
func (l Log) SlogLevel() (slog.Level, error) {
	switch l.Level {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log.level is %q, not one of debug, info, warn, error", l.Level)
}

// Expand replaces BuiltIn in a list of patterns by the built-in ones.
func Expand(list, builtIn []string) []string {
	var out []string
	for _, p := range list {
		if p == BuiltIn {
			out = append(out, builtIn...)
		} else {
			out = append(out, p)
		}
	}
	return out
}

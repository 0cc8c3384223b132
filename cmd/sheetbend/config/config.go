// SPDX-License-Identifier: Apache-2.0

// Package config is the configuration file: its keys, defaults and checks. Flags of the
// commands are laid over it by them.
package config

import (
	"cmp"
	"time"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

// Config is the whole file. Every key is documented in docs/configuration.md, with its bounds; Validate holds these.
type Config struct {
	// Sandboxes are what the sensor watches; run and record with a command have one of their own.
	Sandboxes []Sandbox `yaml:"sandboxes"`
	Exporters Exporters `yaml:"exporters"`
	Spool     Spool     `yaml:"spool"`
	Recorder  Recorder  `yaml:"recorder"`
	Metrics   Metrics   `yaml:"metrics"`
	// Agents are put over the built-in dialects, by name.
	Agents     []agents.Dialect `yaml:"agents"`
	Intake     Intake           `yaml:"intake"`
	Containers Containers       `yaml:"containers"`
	// Socket is the path of the local API, "" for none.
	Socket string `yaml:"socket"`
	// Watches are what ordinary users may have watched by it.
	Watches Watches `yaml:"watches"`
	// Hold is how long a span waits for its end before it is sent with what is known.
	Hold Duration `yaml:"hold"`
	// CallRetention is how long an ended tool call is kept for what comes late.
	CallRetention Duration `yaml:"call_retention"`
	// Noise and Sensitive are patterns of paths; BuiltIn in them stands for the built-in list.
	Noise           []string  `yaml:"noise"`
	Sensitive       []string  `yaml:"sensitive"`
	Workspace       Workspace `yaml:"workspace"`
	Fold            Fold      `yaml:"fold"`
	Trace           Trace     `yaml:"trace"`
	SpanNames       string    `yaml:"span_names"` // "": as the command has it
	MaskCredentials bool      `yaml:"mask_credentials"`
	Confine         bool      `yaml:"confine"`
	Limits          Limits    `yaml:"limits"`
	OpenHook        string    `yaml:"open_hook"`
	// Pin leaves hooks and ring in the kernel at the end, in the directory PinPath of a bpf file system ("": the
	// usual one).
	Pin     bool   `yaml:"pin"`
	PinPath string `yaml:"pin_path"`
	// Journal is a file, NoJournal for none, "" for one on a tmpfs. It needs pins.
	Journal string `yaml:"journal"`
	// CompatCalls has the tracepoint form watch system calls by the 32-bit table, too.
	CompatCalls bool `yaml:"compat_calls"`
	// Names has lookups and what connections begin with read, for the names of peers.
	Names bool `yaml:"names"`
	Log   Log  `yaml:"log"`
}

// Sandbox selects cgroups or containers, by one of the first three, and says whose they are; or, with Agents alone,
// agents wherever they are started.
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
		out.Container = &collector.ContainerSelector{
			Kubernetes: true, Namespaces: k.Namespaces, Handlers: k.RuntimeHandlers, Containers: k.Containers,
			Labels: k.Labels, Annotations: k.Annotations,
		}
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

// Watches are the commands that users have the sensor watch (sheetbend run without root).
type Watches struct {
	MaxPerUser int `yaml:"max_per_user"` // at the same time; 0: none
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
	Listen     string `yaml:"listen"`
	Unix       string `yaml:"unix"`
	Expose     bool   `yaml:"expose"`
	MaxMessage Size   `yaml:"max_message"`
	// Forward passes that telemetry on to the OTLP endpoints of the spans.
	Forward bool `yaml:"forward"`
}

// Fold bounds the spans of what reads, looks for or creates many files: what is beyond is counted by directory. The
// keys are those of collector.Fold. Of a number 0, and of Trees nil, is as the command has it.
type Fold struct {
	Files       int      `yaml:"files"`
	CallFiles   int      `yaml:"call_files"`
	Window      Duration `yaml:"window"`
	Directories int      `yaml:"directories"`
	Missing     int      `yaml:"missing"`
	Creates     int      `yaml:"creates"`
	Trees       *bool    `yaml:"trees"`
}

// ForRules sets what is left open so that rules see each file: for sensor.
func (c *Config) ForRules() {
	c.leftOpen(NamesVerbs, Fold{Files: 200, CallFiles: 100, Directories: 64, Missing: 20, Creates: 50}, false)
}

// ForPeople sets what is left open so that a person can read the spans: for run.
func (c *Config) ForPeople() {
	c.leftOpen(NamesReadable, Fold{Files: 8, CallFiles: 6, Directories: 4, Missing: 20, Creates: 3}, true)
}

func (c *Config) leftOpen(names string, f Fold, trees bool) {
	c.SpanNames = cmp.Or(c.SpanNames, names)
	for n, d := range map[*int]int{
		&c.Fold.Files: f.Files, &c.Fold.CallFiles: f.CallFiles, &c.Fold.Directories: f.Directories,
		&c.Fold.Missing: f.Missing, &c.Fold.Creates: f.Creates,
	} {
		if *n == 0 {
			*n = d
		}
	}
	if c.Fold.Trees == nil {
		c.Fold.Trees = &trees
	}
}

// Trace bounds traces, and says whether those of calls join the agents' own.
type Trace struct {
	MaxSpans int    `yaml:"max_spans"`
	MaxBytes Size   `yaml:"max_bytes"`
	Join     string `yaml:"join"`
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
	NamesContract = collector.NamesContract
	NamesVerbs    = collector.NamesVerbs
	NamesReadable = collector.NamesReadable

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

// Workspace says which changes outside of an agent's working directory are none, and which in it are, where that is the
// root or a home. Both are patterns of paths; BuiltIn in them stands for the built-in list.
type Workspace struct {
	Ignore []string `yaml:"ignore"`
	Never  []string `yaml:"never"`
}

// BuiltIn stands, in lists of patterns, for the built-in list.
const BuiltIn = "default"

// Default is the configuration of an empty file.
func Default() *Config {
	return &Config{
		Exporters:       Exporters{OTLP: OTLPs{defaultOTLP()}, OTLPMode: ModeFanOut},
		Spool:           defaultSpool(),
		Recorder:        Recorder{MaxBytes: 512 << 20, MaxAge: Duration(7 * 24 * time.Hour)},
		Intake:          Intake{MaxMessage: 8 << 20, Forward: true},
		Containers:      Containers{CRI: []string{BuiltIn}, Docker: []string{BuiltIn}, Kubelet: "/var/lib/kubelet"},
		Hold:            Duration(2 * time.Second),
		CallRetention:   Duration(10 * time.Minute),
		Noise:           []string{BuiltIn},
		Sensitive:       []string{BuiltIn},
		Workspace:       Workspace{Ignore: []string{BuiltIn}, Never: []string{BuiltIn}},
		Socket:          client.DefaultSocket,
		Watches:         Watches{MaxPerUser: 16},
		Fold:            Fold{Window: Duration(time.Minute)},
		Trace:           Trace{MaxSpans: 4000, MaxBytes: 3 << 20, Join: JoinAuto},
		MaskCredentials: true,
		Names:           true,
		Confine:         true,
		Limits:          Limits{RingBytes: 8 << 20, Cgroups: 16384, Processes: 65536, JournalBytes: 64 << 20},
		OpenHook:        HookAuto,
		Pin:             true,
		Log:             Log{Level: "info", Format: FormatText},
	}
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

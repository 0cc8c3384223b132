// SPDX-License-Identifier: Apache-2.0

// Package config has the configuration of the collector: which sandboxes there are, what is noise, what is sensitive,
// and the bounds. It is all that spans depend on besides the records.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// Config is all that spans depend on besides the record stream. It goes into the
// head of a capture, so that a replay makes the same spans. Zero numbers and nil
// lists stand for the defaults (WithDefaults); an empty list that is not nil is empty.
type Config struct {
	// Run is on every span as sheetbend.run: the numbers of sheetbend.seq count in it.
	Run      string      `json:"run"`
	BootID   string      `json:"boot_id"`            // /proc/sys/kernel/random/boot_id; part of every span id
	Resource []span.Attr `json:"resource,omitempty"` // of the host; a service.name here wins over the agent's

	Sandboxes []Selector `json:"sandboxes"`
	// Containers says that Container records come: spans of a container wait for what its runtime says.
	Containers bool `json:"containers,omitempty"`

	// Self is the file of the sensor's own program, which is the hook of agents, too. Zero: not known.
	Self FileID `json:"self,omitzero"`

	// Names says that Packet records come: what a connection begins with is waited for.
	Names bool `json:"names,omitempty"`
	// Hosts is what the host's file of names (/etc/hosts) says.
	Hosts []Host `json:"hosts,omitempty"`

	// OwnTraces: the agents' own spans do not go where these go, so that nothing can stand below them: each
	// call has its execute_tool, and links.
	OwnTraces bool `json:"own_traces,omitempty"`

	// Agents are the dialects by which agents and their calls are recognised; nil: the built-in ones.
	Agents        []agents.Dialect `json:"agents"`
	CallRetention time.Duration    `json:"call_retention"` // how long an ended call, and a fact about a call not seen yet, is kept
	MaxCalls      int              `json:"max_calls"`      // ended calls kept, facts kept, and calls open by markers: each

	Hold             time.Duration `json:"hold"`                // how long a span waits for its end before a notice goes out
	MaxLength        time.Duration `json:"max_length"`          // how long one that others stand under waits then, from its begin
	MaxSpansPerTrace int           `json:"max_spans_per_trace"` // after so many, or
	OldSlice         any           `json:"slice,omitempty"`     // in captures of contract 1; not used
	MaxTraceBytes    int           `json:"max_trace_bytes"`     // so many encoded bytes, a trace ends: Tempo keeps 5 MB of one
	Noise            []string      `json:"noise"`               // paths whose reads are counted, not listed; see Pattern
	Sensitive        []string      `json:"sensitive"`           // paths that are never noise and never fold
	WorkspaceIgnore  []string      `json:"workspace_ignore"`    // paths whose changes are never outside of a workspace
	WorkspaceNever   []string      `json:"workspace_never"`     // paths that are in no workspace, though that is the root or a home
	Fold             Fold          `json:"fold"`
	SpanNames        string        `json:"span_names"`               // NamesContract, NamesVerbs or NamesReadable
	OldReadable      bool          `json:"readable_names,omitempty"` // in captures before there was SpanNames: NamesReadable
	ShowCredentials  bool          `json:"show_credentials"`         // do not mask argv

	PageBytes    int `json:"page_bytes"`     // of the host, for peak memory
	MaxProcesses int `json:"max_processes"`  // beyond it the least recently active one of the fullest sandbox is forgotten and counted as lost
	MaxCgroups   int `json:"max_cgroups"`    // in sandboxes; further ones are counted as lost
	MaxPending   int `json:"max_pending"`    // spans held at once; beyond it the oldest goes out early
	MaxArgsBytes int `json:"max_args_bytes"` // of one argv; the kernel programs send up to 256 KiB
}

// FileID names a file for as long as it exists: the device as the kernel counts it (major << 20 | minor), and the
// inode.
type FileID struct {
	Dev   uint32 `json:"dev"`
	Inode uint64 `json:"inode"`
}

// Host is an address and its name.
type Host struct {
	Address netip.Addr `json:"address"`
	Name    string     `json:"name"`
}

// Selector chooses sandboxes: every cgroup whose path matches the glob and that
// lies in no other sandbox, with everything below it; or containers; or agents.
type Selector struct {
	// Cgroup is matched component by component (path.Match) against the path from the
	// cgroup v2 mount, for example "/agents/*". The first selector that matches wins.
	Cgroup string `json:"cgroup"`
	// Container, instead of Cgroup, chooses containers by what their runtime says: each is a sandbox. In
	// Session {namespace}, {pod} and {container} stand for theirs.
	Container *ContainerSelector `json:"container,omitempty"`
	// Session is the session id; {name} in it is the last component of the sandbox's
	// path. Empty: the sandbox id.
	Session string `json:"session,omitempty"`
	// Agent is the agent's name and the service.name; empty: "sandbox" as service.name only.
	Agent string `json:"agent,omitempty"`
	// Agents, instead of all these, chooses no cgroups: each agent that is one of these dialects, or any (AllAgents),
	// is a sandbox with all that is below it, wherever it is started outside of other sandboxes.
	Agents []string `json:"agents,omitempty"`
	// Unknown: what is started in the sandbox from outside is what a person wants watched. If it is no known agent, but
	// starts shells in kernel sessions of their own, it is taken for one.
	Unknown bool `json:"unknown,omitempty"`
}

// Fold says when what was done to single files becomes one span for their directory.
type Fold struct {
	Files       int           `json:"files"`       // distinct files that one program may read within Window before the rest folds
	CallFiles   int           `json:"call_files"`  // the same of all programs of a call together
	Window      time.Duration `json:"window"`      //
	Directories int           `json:"directories"` // folded directories held at once for a process, or a call; for a further one the oldest is sent
	Missing     int           `json:"missing"`     // from which file of a directory on, that is not there, a program's looking for it has a span
	Creates     int           `json:"creates"`     // files that one process may create in a directory within Hold before they fold
	// Trees has files fold for directories above their own, too, so that no more than Directories are told. It is for
	// people: what was read where in a tree is not told then. Creates is of a process then, wherever the files are.
	Trees bool `json:"trees,omitempty"`
}

// The values of Config.SpanNames: how spans are called.
const (
	NamesContract = "contract" // as span.Kind, with the tool's name
	NamesVerbs    = "verbs"    // by what was done and how that came out: few
	NamesReadable = "readable" // with operands, for people: many
)

// MaxHosts is how many names of hosts there may be.
const MaxHosts = 65536

// Bounds that are not worth a setting.
const (
	maxSelectors    = 1024
	maxPatterns     = 4096
	maxConfigString = 4096
	maxResource     = 256
)

// WithDefaults gives the configuration with every default written out: the form
// that belongs into a capture.
func (c Config) WithDefaults() Config {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	setTime := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	setTime(&c.Hold, 2*time.Second)
	setTime(&c.MaxLength, time.Minute)
	if c.Run == "" {
		c.Run = "0"
	}
	set(&c.MaxSpansPerTrace, 4000)
	set(&c.MaxTraceBytes, 3<<20)
	if c.Noise == nil {
		c.Noise = DefaultNoise()
	}
	if c.Sensitive == nil {
		c.Sensitive = DefaultSensitive()
	}
	if c.WorkspaceIgnore == nil {
		c.WorkspaceIgnore = DefaultWorkspaceIgnore()
	}
	if c.WorkspaceNever == nil {
		c.WorkspaceNever = DefaultWorkspaceNever()
	}
	set(&c.Fold.Files, 200)
	set(&c.Fold.CallFiles, 100)
	set(&c.Fold.Missing, 20)
	set(&c.Fold.Creates, 50)
	setTime(&c.Fold.Window, time.Minute)
	set(&c.Fold.Directories, 64)
	if c.SpanNames == "" {
		c.SpanNames = NamesContract
		if c.OldReadable {
			c.SpanNames = NamesReadable
		}
	}
	c.OldReadable = false
	set(&c.PageBytes, 4096)
	set(&c.MaxProcesses, 65536)
	set(&c.MaxCgroups, 65536)
	set(&c.MaxPending, 65536)
	set(&c.MaxArgsBytes, 256<<10)
	if c.Agents == nil {
		c.Agents = agents.Builtin()
	}
	setTime(&c.CallRetention, 10*time.Minute)
	set(&c.MaxCalls, 4096)
	return c
}

// Validate says what is wrong with the configuration in words for the user who wrote it.
func (c Config) Validate() error {
	c = c.WithDefaults()
	if strings.ContainsRune(c.BootID, 0) || len(c.BootID) > maxConfigString {
		return errors.New("boot id: too long or with a NUL byte")
	}
	if len(c.Resource) > maxResource {
		return fmt.Errorf("resource: %d attributes, at most %d are allowed", len(c.Resource), maxResource)
	}
	if len(c.Hosts) > MaxHosts {
		return fmt.Errorf("hosts: %d names, at most %d are allowed", len(c.Hosts), MaxHosts)
	}
	if len(c.Sandboxes) > maxSelectors {
		return fmt.Errorf("sandboxes: %d selectors, at most %d are allowed", len(c.Sandboxes), maxSelectors)
	}
	for i, s := range c.Sandboxes {
		if err := s.validate(); err != nil {
			return fmt.Errorf("sandboxes[%d]: %w", i, err)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
		least time.Duration
		most  time.Duration
	}{
		{"hold", c.Hold, time.Millisecond, time.Minute},
		{"max_length", c.MaxLength, c.Hold, time.Hour},
		{"fold.window", c.Fold.Window, time.Second, 24 * time.Hour},
		{"call_retention", c.CallRetention, time.Second, 24 * time.Hour},
	} {
		if d.value < d.least || d.value > d.most {
			return fmt.Errorf("%s: %v is not between %v and %v", d.name, d.value, d.least, d.most)
		}
	}
	for _, n := range []struct {
		name        string
		value       int
		least, most int
	}{
		{"max_spans_per_trace", c.MaxSpansPerTrace, 2, 1 << 30},
		{"max_trace_bytes", c.MaxTraceBytes, 1 << 16, 1 << 30},
		{"fold.files", c.Fold.Files, 1, 1 << 20},
		{"fold.call_files", c.Fold.CallFiles, 1, 1 << 20},
		{"fold.directories", c.Fold.Directories, 1, 1 << 16},
		{"fold.missing", c.Fold.Missing, 1, 1 << 20},
		{"fold.creates", c.Fold.Creates, 1, 1 << 20},
		{"page_bytes", c.PageBytes, 4096, 1 << 20},
		{"max_processes", c.MaxProcesses, 16, 1 << 22},
		{"max_cgroups", c.MaxCgroups, 16, 1 << 22},
		{"max_pending", c.MaxPending, 16, 1 << 22},
		{"max_args_bytes", c.MaxArgsBytes, 1 << 10, 1 << 20},
		{"max_calls", c.MaxCalls, 16, 1 << 20},
	} {
		if n.value < n.least || n.value > n.most {
			return fmt.Errorf("%s: %d is not between %d and %d", n.name, n.value, n.least, n.most)
		}
	}
	if c.SpanNames != NamesContract && c.SpanNames != NamesVerbs && c.SpanNames != NamesReadable {
		return fmt.Errorf("span_names: %q is none of contract, verbs, readable", c.SpanNames)
	}
	if err := agents.Validate(c.Agents); err != nil {
		return fmt.Errorf("agents: %w", err)
	}
	for _, l := range []struct {
		name string
		list []string
	}{
		{"noise", c.Noise}, {"sensitive", c.Sensitive},
		{"workspace.ignore", c.WorkspaceIgnore}, {"workspace.never", c.WorkspaceNever},
	} {
		if _, err := CompilePatterns(l.list); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

func (s Selector) validate() error {
	if len(s.Agents) > 0 {
		if s.Cgroup != "" || s.Session != "" || s.Agent != "" {
			return errors.New("agents: stands alone, without cgroup, session and agent")
		}
		return nil
	}
	if s.Container != nil {
		return s.Container.validate()
	}
	if !strings.HasPrefix(s.Cgroup, "/") {
		return fmt.Errorf("cgroup %q: must begin with a slash: it is relative to the cgroup v2 mount", s.Cgroup)
	}
	if s.Cgroup == "/" {
		return errors.New(`cgroup "/": the root of the hierarchy holds the whole host; name a directory below it`)
	}
	if path.Clean(s.Cgroup) != s.Cgroup {
		return fmt.Errorf("cgroup %q: write it as %q", s.Cgroup, path.Clean(s.Cgroup))
	}
	if _, err := path.Match(s.Cgroup, "/"); err != nil {
		return fmt.Errorf("cgroup %q: %w", s.Cgroup, err)
	}
	for _, v := range []string{s.Cgroup, s.Session, s.Agent} {
		if len(v) > maxConfigString || strings.ContainsRune(v, 0) {
			return errors.New("a value is too long or has a NUL byte")
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, text string
		check      func(*Config) bool
		says       []string // in the error
	}{
		{name: "an empty file means the defaults", text: "", check: func(c *Config) bool { return reflect.DeepEqual(c, Default()) }},
		{name: "comments alone mean the defaults", text: "# nothing\n", check: func(c *Config) bool { return reflect.DeepEqual(c, Default()) }},
		{name: "the smallest configuration", text: "sandboxes:\n  - cgroup: /agents/*\nexporters:\n  otlp:\n    endpoint: http://127.0.0.1:4317\n",
			check: func(c *Config) bool {
				return c.Sandboxes[0].Cgroup == "/agents/*" && c.Exporters.OTLP[0].Endpoint == "http://127.0.0.1:4317" && time.Duration(c.Hold) == 2*time.Second
			}},
		{name: "a section keeps the defaults of keys that it leaves out", text: "trace:\n  max_spans: 50\n",
			check: func(c *Config) bool { return c.Trace.MaxSpans == 50 && c.Trace.MaxBytes == 3<<20 }},
		{name: "sizes take units", text: "limits:\n  ring_bytes: 32MiB\n", check: func(c *Config) bool { return c.Limits.RingBytes == 32<<20 }},
		{name: "sizes are bytes without one", text: "limits:\n  ring_bytes: 1048576\n", check: func(c *Config) bool { return c.Limits.RingBytes == 1<<20 }},
		{name: "false overrides a default of true", text: "mask_credentials: false\n", check: func(c *Config) bool { return !c.MaskCredentials }},
		{name: "an unknown key is named with its line and the nearest known one", text: "hold: 2s\nexporters:\n  otlp:\n    endpiont: x\n",
			says: []string{"line 4", `"exporters.otlp.endpiont"`, `"exporters.otlp.endpoint"`}},
		{name: "an unknown key in a list too", text: "sandboxes:\n- cgroup: /a\n  sesion: x\n", says: []string{"line 3", `"sandboxes[0].session"`}},
		{name: "several endpoints, each with the defaults", text: "exporters:\n  otlp:\n  - endpoint: http://a:1\n    queue: {spans: 1000}\n  - endpoint: http://b:2\n  otlp_mode: fail-over\n",
			check: func(c *Config) bool {
				o := c.Exporters.OTLP
				return len(o) == 2 && o[0].Queue.Spans == 1000 && o[1].Queue.Spans == 65536 && o[1].Endpoint == "http://b:2" && c.Exporters.OTLPMode == ModeFailOver
			}},
		{name: "an empty list of endpoints", text: "exporters:\n  otlp: []\n", says: []string{"line 2", "empty list"}},
		{name: "an unknown key in the list of endpoints", text: "exporters:\n  otlp:\n  - endpiont: x\n", says: []string{"line 3", `"exporters.otlp[0].endpoint"`}},
		{name: "exporters without anything", text: "exporters:\n  otlp:\n", check: func(c *Config) bool { return reflect.DeepEqual(c, Default()) }},
		{name: "the spool", text: "spool: {path: /x, max_bytes: 2GiB, max_age: 24h, sync: none}\n", check: func(c *Config) bool {
			return c.Spool == Spool{Path: "/x", MaxBytes: 2 << 30, MaxAge: Duration(24 * time.Hour), Sync: "none", DeadLetters: 64 << 20, PassedOn: "disk"}
		}},
		{name: "a key like no other is named alone", text: "zzzzzzzzzzz: 1\n", says: []string{`unknown key "zzzzzzzzzzz"`}},
		{name: "a duration without a unit", text: "hold: 2\n", says: []string{"line 1", "unit"}},
		{name: "a size that is none", text: "limits:\n  ring_bytes: lots\n", says: []string{"line 2", "16MiB"}},
		{name: "a word where a number belongs", text: "fold:\n  files: many\n", says: []string{"line 2", "many"}},
		{name: "a list where a section belongs", text: "exporters: [1]\n", says: []string{"line 1"}},
		{name: "a string where a list belongs", text: "sandboxes: /a\n", says: []string{"line 1", "a list of sandboxes"}},
		{name: "a key given twice", text: "hold: 2s\nhold: 3s\n", says: []string{"hold"}},
		{name: "two documents", text: "hold: 2s\n---\nhold: 3s\n", says: []string{"more than one"}},
		{name: "no YAML", text: "a: [\n", says: []string{"line"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parse([]byte(c.text))
			if len(c.says) == 0 && err != nil {
				t.Fatal(err)
			}
			for _, says := range c.says {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("error %v does not say %q", err, says)
				}
			}
			if c.check != nil && !c.check(got) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatalf("the defaults are refused: %v", err)
	}
	for key, change := range map[string]func(*Config){
		"sandboxes[0] says not what to watch: cgroup, kubernetes, docker or agents": func(c *Config) { c.Sandboxes = []Sandbox{{Session: "x"}} },
		"begin with /":                          func(c *Config) { c.Sandboxes = []Sandbox{{Cgroup: "a"}} },
		"same as sandboxes[0]":                  func(c *Config) { c.Sandboxes = []Sandbox{{Cgroup: "/a"}, {Cgroup: "/a"}} },
		"hold is 0s":                            func(c *Config) { c.Hold = 0 },
		"call_retention is 48h0m0s":             func(c *Config) { c.CallRetention = Duration(48 * time.Hour) },
		"fold.files":                            func(c *Config) { c.Fold.Files = -1 },
		"span_names":                            func(c *Config) { c.SpanNames = "pretty" },
		"open_hook":                             func(c *Config) { c.OpenHook = "kprobe" },
		"log.level":                             func(c *Config) { c.Log.Level = "loud" },
		"exporters.otlp[1].endpoint":            func(c *Config) { c.Exporters.OTLP = OTLPs{{Endpoint: "a", Queue: Queue{1 << 20, 512}}, {}} },
		"exporters.otlp_mode":                   func(c *Config) { c.Exporters.OTLPMode = "both" },
		"exporters.otlp.protocol":               func(c *Config) { c.Exporters.OTLP[0].Protocol = "http/json" },
		"exporters.otlp.signals is \"metrics\"": func(c *Config) { c.Exporters.OTLP[0].Signals = []string{"logs", "metrics"} },
		"exporters.otlp.signals is empty":       func(c *Config) { c.Exporters.OTLP[0].Signals = nil },
		"signals has to be as that of the others": func(c *Config) {
			c.Exporters.OTLP, c.Exporters.OTLPMode = OTLPs{defaultOTLP(), defaultOTLP()}, ModeFailOver
			c.Exporters.OTLP[0].Endpoint, c.Exporters.OTLP[1].Endpoint, c.Exporters.OTLP[1].Signals = "a", "b", []string{"logs"}
		},
		"exporters.otlp.compression": func(c *Config) { c.Exporters.OTLP[0].Compression = "zstd" },
		"tls.key only work together": func(c *Config) { c.Exporters.OTLP[0].TLS.Cert = "/c" },
		"spool.path":                 func(c *Config) { c.Spool.Path = "var" },
		"spool.sync":                 func(c *Config) { c.Spool.Sync = "always" },
		"spool.max_bytes":            func(c *Config) { c.Spool.MaxBytes = 1 },
		"spool.max_age":              func(c *Config) { c.Spool.MaxAge = 1 },
		"containers.kubelet":         func(c *Config) { c.Containers.Kubelet = "kubelet" },
		"limits.ring_bytes":          func(c *Config) { c.Limits.RingBytes = 1 },
	} {
		c := Default()
		change(c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("error %v does not say %q", err, key)
		}
	}
}

func TestAnErrorNamesTheFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(name, []byte("nope: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Read(f); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("error %v does not name the file", err)
	}
}

func TestTheBuiltInListCanBeExtendedOrReplaced(t *testing.T) {
	builtIn := []string{"/lib/*", "/usr/lib/*"}
	if got := Expand([]string{"/a", BuiltIn, "/b"}, builtIn); !slices.Equal(got, []string{"/a", "/lib/*", "/usr/lib/*", "/b"}) {
		t.Errorf("extended: %q", got)
	}
	if got := Expand([]string{"/a"}, builtIn); !slices.Equal(got, []string{"/a"}) {
		t.Errorf("replaced: %q", got)
	}
}

// The documentation is part of the interface: no key without its description.
func TestEveryKeyIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range paths(reflect.TypeFor[Config](), "") {
		if !strings.Contains(string(doc), "`"+key+"`") {
			t.Errorf("docs/configuration.md does not have `%s`", key)
		}
	}
}

func paths(t reflect.Type, at string) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		key := join(at, f.Tag.Get("yaml"))
		ft := f.Type
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		switch {
		case ft == reflect.TypeFor[OTLPs]():
			out = append(out, paths(ft.Elem(), key)...)
		case ft.Kind() == reflect.Struct:
			out = append(out, paths(ft, key)...)
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			out = append(out, paths(ft.Elem(), key+"[]")...)
		default:
			out = append(out, key)
		}
	}
	return out
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("sandboxes:\n  - cgroup: /agents/*\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("hold: [1]\nlimits: {ring_bytes: {}}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parse(text)
		if err == nil {
			_ = c.Validate()
		}
	})
}

func TestTheTimeoutIsNotSetByDefaultSoThatTheEnvironmentHolds(t *testing.T) {
	c := Default()
	if c.Exporters.OTLP[0].Timeout != 0 {
		t.Errorf("%v, want 0", c.Exporters.OTLP[0].Timeout)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c.Exporters.OTLP[0].Timeout = 1
	if c.Validate() == nil {
		t.Error("1 ns is taken")
	}
}

// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/capture"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

// recordEnv names a directory into which TestRecordAgentSessions puts a session of each agent that is
// installed, to replace those of testdata/agents. docs/agents.md says how to use it.
const recordEnv = "SHEETBEND_RECORD_AGENTS"

// TestRecordAgentSessions makes fixtures; without being asked to, it does nothing.
func TestRecordAgentSessions(t *testing.T) {
	into := os.Getenv(recordEnv)
	if into == "" {
		return
	}
	installed := needAgents(t)
	for _, a := range []realAgent{codex, codexBefore, claude, claudeSDK, gemini, qwen, qwenTraced, copilot, opencode, opencodePlugin, cline, pi, kimi, nanocoder} {
		if _, err := os.Stat(filepath.Join(installed, "node_modules", a.pkg)); err != nil {
			continue
		}
		fixture := a.fixture
		if fixture == "" {
			fixture = a.name
		}
		t.Run(fixture, func(t *testing.T) {
			// No name of this machine or of this test shall be in the record.
			root := filepath.Join("/tmp/sheetbend-agents", fixture)
			if err := os.RemoveAll(root); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(root) })
			d := newDesk(t, installed, root, func(d *desk) []modeltest.Script {
				return []modeltest.Script{steps(d, a.session), {Name: "earlier", Turns: [][]modeltest.Call{{modeltest.Shell(d.read("earlier"))}}}}
			})
			d.settle(a)
			raw, out := filepath.Join(t.TempDir(), "capture"), filepath.Join(t.TempDir(), "spans")
			flags, line := append(slices.Clone(a.flags), "--record", raw, "--output", out), a.commandLine("steps", false)
			if a.name == cline.name {
				flags, line = append(flags, "--leftovers", "kill"), append(line, modeltest.Prompt("earlier"))
			}
			d.run(flags, line, a)
			spans := read(t, out)
			for _, file := range []string{"single", "left", "right", "failing", "after"} {
				if !slices.ContainsFunc(spans, (&mark{file: file, by: cats}).in) {
					t.Errorf("nobody read %s", file)
				}
			}
			if err := keep(raw, filepath.Join(into, fixture+".capture.gz")); err != nil {
				t.Fatal(err)
			}
			d.note(a, filepath.Join(into, fixture+".json"))
		})
	}
}

// TestRecordStandIns makes the fixtures of those that can only be played.
func TestRecordStandIns(t *testing.T) {
	into := os.Getenv(recordEnv)
	if into == "" {
		return
	}
	installed := needAgents(t)
	for _, a := range standIns {
		t.Run(a.name, func(t *testing.T) {
			root := filepath.Join("/tmp/sheetbend-agents", a.name)
			if err := os.RemoveAll(root); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(root) })
			d := newDesk(t, installed, root, func(*desk) []modeltest.Script { return nil })
			raw := filepath.Join(t.TempDir(), "capture")
			d.run(append(a.flags(), "--record", raw), a.commandLine(d))
			known, err := exec.CommandContext(t.Context(), "node", standInScript, a.name, "--known").Output()
			if err := errors.Join(err, keep(raw, filepath.Join(into, a.name+".capture.gz"))); err != nil {
				t.Fatal(err)
			}
			note(t, filepath.Join(into, a.name+".json"), map[string]string{
				"stand_in": "played by stand-ins/agent.js; known from " + strings.TrimSpace(string(known)), "session": d.session(),
			})
		})
	}
}

func note(t *testing.T, to string, what map[string]string) {
	t.Helper()
	text, err := json.MarshalIndent(what, "", "  ")
	if err := errors.Join(err, os.WriteFile(to, append(text, '\n'), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// note writes down what a fixture is of.
func (d *desk) note(a realAgent, to string) {
	d.t.Helper()
	var installed struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	text, err := os.ReadFile(filepath.Join(d.installed, "node_modules", a.pkg, "package.json"))
	if err := errors.Join(err, json.Unmarshal(text, &installed)); err != nil {
		d.t.Fatal(err)
	}
	session, err := os.ReadFile(filepath.Join(d.dir, "session"))
	if err != nil {
		d.t.Fatal(err)
	}
	note(d.t, to, map[string]string{
		"package": installed.Name, "version": installed.Version, "session": strings.TrimSpace(string(session)),
	})
}

// keep makes a fixture of a capture: compressed, and without what identifies the host.
func keep(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := capture.NewReader(in)
	if err != nil {
		return err
	}
	h := r.Header()
	h.Sensor, h.Config.BootID, h.Config.Resource = "fixture", "00000000-0000-4000-8000-000000000000", nil
	h.Config.Fold = config.Fold{Files: 200, Window: time.Minute, Directories: 64} // not as these tests have it
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	z, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	w, err := capture.NewWriter(z, h)
	if err != nil {
		return err
	}
	for {
		raw, err := r.Next()
		if errors.Is(err, io.EOF) {
			return errors.Join(w.Flush(), z.Close())
		}
		if err != nil {
			return err
		}
		if err := w.Record(raw); err != nil {
			return err
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/BurntSushi/toml"

	"github.com/sheetbend/sheetbend/enrich/agents"
)

// setUpIn gives the agent's own file that sets its telemetry up, with the key; "" if there is none. Variables in
// such a file win over those of the process, so where they point does not count: it would not be the intake.
func setUpIn(d *agents.Dialect, l launch, who identity) string {
	for _, place := range ownFiles(d.Name, l.env) {
		text, err := who.readOwn(place.file)
		if err != nil {
			continue // it is not there, or the agent cannot read it either
		}
		if key := place.find(text); key != "" {
			return key + " in " + place.file
		}
	}
	return ""
}

type ownFile struct {
	file string
	find func(text []byte) (key string)
}

// ownFiles are the files in which an agent's telemetry can be set up. The directory that the agent is started in is
// this process's.
func ownFiles(agent string, env []string) (files []ownFile) {
	home, _ := lookupEnv(env, "HOME")
	dirOf := func(variable, name string) string {
		if dir, _ := lookupEnv(env, variable); dir != "" {
			return dir
		}
		return filepath.Join(home, name)
	}
	add := func(find func([]byte) string, names ...string) {
		for _, name := range names {
			if abs, err := filepath.Abs(name); err == nil {
				files = append(files, ownFile{abs, find})
			}
		}
	}
	switch agent {
	case "claude-code":
		// https://docs.claude.com/en/docs/claude-code/settings
		add(endpointInClaudeSettings, "/etc/claude-code/managed-settings.json",
			".claude/settings.local.json", ".claude/settings.json",
			filepath.Join(dirOf("CLAUDE_CONFIG_DIR", ".claude"), "settings.json"))
	case "codex":
		// https://developers.openai.com/codex/config-reference
		add(exporterInCodexConfig, "/etc/codex/config.toml", ".codex/config.toml",
			filepath.Join(dirOf("CODEX_HOME", ".codex"), "config.toml"))
	}
	return files
}

func endpointInClaudeSettings(text []byte) string {
	var file struct {
		Env map[string]any `json:"env"`
	}
	if json.Unmarshal(text, &file) != nil {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(file.Env)) {
		value, _ := file.Env[name].(string)
		if value != "" && strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_") && strings.HasSuffix(name, "ENDPOINT") {
			return name
		}
	}
	return ""
}

func exporterInCodexConfig(text []byte) string {
	var file struct {
		Otel map[string]any `toml:"otel"`
	}
	if toml.Unmarshal(text, &file) != nil {
		return ""
	}
	for _, name := range []string{"exporter", "trace_exporter"} {
		if value, ok := file.Otel[name]; ok && value != "none" {
			return "otel." + name
		}
	}
	return ""
}

// readOwn reads a file with the rights of the user, if it is that user's or root's.
func (i identity) readOwn(name string) (text []byte, err error) {
	f := &agentFile{path: name, uid: uint32(os.Geteuid())}
	if i.credential != nil {
		f.uid, f.gid = i.credential.Uid, i.credential.Gid
	}
	as := f.as
	if i.other() {
		as = i.withRights // with all groups
	}
	err = as(func() (err error) {
		text, err = readSettings(name, 0, func(st *syscall.Stat_t) bool { return st.Uid == f.uid || st.Uid == 0 })
		return err
	})
	return text, err
}

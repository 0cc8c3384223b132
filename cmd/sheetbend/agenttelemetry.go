// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// A launch is a command about to be started.
type launch struct {
	program string // its file
	args    []string
	env     []string
}

// dialectOf finds what the command speaks: the dialect that --agent names, or that of its program. at is the index of
// the first argument behind the agent's program or script, 0 if the command is not known to be an agent itself.
func dialectOf(table *agents.Table, named string, l launch) (d *agents.Dialect, at int) {
	d = table.Find(programOf(l.program, l.args))
	at = 1
	if d == nil {
		if interpreter := shebang(l.program); interpreter != "" {
			for _, script := range []string{l.program, resolved(l.program)} {
				if d = table.Find(programOf(interpreter, []string{interpreter, script})); d != nil {
					break
				}
			}
		}
	} else if !slices.Contains(d.Executables, agents.ProgramName(resolved(l.program))) {
		// An interpreter: its script is what the dialect was found by.
		at = programOf(l.program, l.args).ScriptAt() + 1
	}
	if n := table.Named(named); named != "" && n != nil && n != d {
		return n, 0
	}
	return d, at
}

func programOf(file string, args []string) agents.Program {
	p := agents.Program{Executable: resolved(file), Args: strings.Join(args, "\x00") + "\x00"}
	if info, err := os.Stat(file); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			p.Owner = st.Uid
		}
	}
	return p
}

func resolved(file string) string {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		return real
	}
	return file
}

// shebang is the file of the interpreter that a script's first line names, through env(1) if need be; "" without one.
func shebang(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	line, _ := bufio.NewReader(io.LimitReader(f, 256)).ReadString('\n') // the kernel reads as much
	words, ok := strings.CutPrefix(line, "#!")
	fields := strings.Fields(words)
	if !ok || len(fields) == 0 {
		return ""
	}
	if filepath.Base(fields[0]) != "env" {
		return fields[0]
	}
	for _, word := range fields[1:] {
		if strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
			continue
		}
		if found, err := exec.LookPath(word); err == nil {
			return found
		}
		return word
	}
	return ""
}

// elsewhere says which variable or argument of the user has switched the agent's telemetry on already; "" if none
// has, or if it goes where sheetbend forwards to anyway.
func elsewhere(d *agents.Dialect, l launch, forwarded string) string {
	for _, name := range d.Enable.Present {
		value, _ := lookupEnv(l.env, name)
		if value != "" && !(strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_") && sameEndpoint(value, forwarded)) {
			return name
		}
		for _, arg := range l.args[1:] {
			if strings.HasPrefix(arg, name) {
				return name + "…"
			}
		}
	}
	return ""
}

// sameEndpoint: sheetbend takes its own backend from the same standard variables.
func sameEndpoint(a, b string) bool {
	none := func(string) string { return "" }
	x, okX, errX := otlp.FindEndpoint(a, "", none)
	y, okY, errY := otlp.FindEndpoint(b, "", none)
	return okX && okY && errX == nil && errY == nil && x.String() == y.String()
}

func lookupEnv(env []string, name string) (value string, ok bool) {
	for _, pair := range env {
		if k, v, has := strings.Cut(pair, "="); has && k == name {
			value, ok = v, true // the last one counts
		}
	}
	return value, ok
}

// enable switches the agent's own telemetry on, towards the endpoint. It returns what it set, in words.
func enable(d *agents.Dialect, l launch, at int, endpoint string) (launch, []string) {
	put := func(s string) string { return strings.ReplaceAll(s, "{endpoint}", endpoint) }
	env := map[string]string{}
	for name, value := range d.Enable.Env {
		// Variables of one signal would win over the general ones.
		if suffix, ok := strings.CutPrefix(name, "OTEL_EXPORTER_OTLP_"); ok {
			for _, signal := range []string{"TRACES_", "LOGS_", "METRICS_"} {
				l.env = without(l.env, "OTEL_EXPORTER_OTLP_"+signal+suffix)
			}
		}
		env[name] = put(value)
	}
	var args []string
	for _, a := range d.Enable.Args {
		args = append(args, put(a))
	}
	return l.with(env, args, at)
}

func without(env []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(pair string) bool { return strings.HasPrefix(pair, name+"=") })
}

// switchOn changes the command so that it reports to the intake, and says what it did or why it did not. host are
// attributes of the sensor's own resource.
func switchOn(
	table *agents.Table, named string, l launch, who identity, i *intake, h hookProgram, host []span.Attr,
) (launch, string) {
	name := filepath.Base(l.args[0])
	var d *agents.Dialect
	var at int
	err := who.rights(func() error {
		d, at = dialectOf(table, named, l)
		return nil
	})
	if err != nil || d == nil {
		return l, fmt.Sprintf("--agent-telemetry: %s is no agent that is known; "+
			"--agent NAME says which one it runs (docs/agents.md)", name)
	}
	if len(d.Enable.Env) == 0 && (len(d.Enable.Args) == 0 || at == 0) {
		why := "it has no switch for that"
		if len(d.Enable.Args) > 0 {
			why = "that takes arguments, and " + name + " is not the agent itself"
		}
		return l, fmt.Sprintf("--agent-telemetry: the telemetry of %s cannot be switched on here: %s", d.Name, why)
	}
	by := elsewhere(d, l, i.to)
	if by == "" {
		by = setUpIn(d, l, who)
	}
	if by != "" {
		return l, fmt.Sprintf("--agent-telemetry: the telemetry of %s is set up already (%s) and stays as it is: "+
			"it is not read here", d.Name, by)
	}
	l, hooks := addHooks(d.Name, l, at, who, h)
	l, set := enable(d, l, at, i.url())
	if env, changed := onHost(l.env, host); changed {
		l.env, set = env, append(set, varResource)
	}
	line := fmt.Sprintf("%s reports its own telemetry for this run (%s)", d.Name, strings.Join(set, ", "))
	if hooks != "" {
		line += ", " + hooks
	}
	if gives := d.Enable.Gives; gives != "" {
		line += "; read from it: " + gives
	} else {
		line += "; nothing of it gets onto the spans of Sheetbend"
	}
	if i.to != "" {
		line += "; forwarded to " + i.to
	} else {
		line += "; not forwarded"
	}
	if d.Enable.Also != "" {
		line += "; " + d.Enable.Also
	}
	return l, line
}

// varResource is the standard variable for the attributes of a process's own resource.
const varResource = "OTEL_RESOURCE_ATTRIBUTES"

// onHost adds the sensor's host to the agent's own resource attributes, where they do not say it: a backend knows by it
// that the spans of both were timed by one clock.
func onHost(env []string, host []span.Attr) ([]string, bool) {
	value, _ := lookupEnv(env, varResource)
	list := strings.FieldsFunc(value, func(r rune) bool { return r == ',' })
	there := func(key string) bool {
		return slices.ContainsFunc(list, func(pair string) bool {
			name, _, _ := strings.Cut(pair, "=")
			return strings.TrimSpace(name) == key
		})
	}
	changed := false
	for _, a := range host {
		switch a.Key {
		case "ip", "host.id", "host.name":
			if a.Str != "" && !there(a.Key) {
				list, changed = append(list, a.Key+"="+percent(a.Str)), true
			}
		}
	}
	if !changed {
		return env, false
	}
	return append(without(env, varResource), varResource+"="+strings.Join(list, ",")), true
}

// percent encodes what may not stand in a value of OTEL_RESOURCE_ATTRIBUTES.
func percent(value string) string {
	var b strings.Builder
	for _, c := range []byte(value) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`",;=\%`, c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

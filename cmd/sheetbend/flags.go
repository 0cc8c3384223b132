// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
)

// settings are the flags that stand for keys of the configuration.
type settings struct {
	file, output, openHook, logLevel, logFormat string
	endpoint, protocol                          string
	names                                       string
	noConfine                                   bool
	noPin                                       bool

	by   identity // who named them, once load has been called
	owns identity // with whose rights an administering command opens what the file names
}

func (s *settings) config(f *pflag.FlagSet, usage string) {
	f.StringVar(&s.file, "config", "", usage)
}

func (s *settings) exporters(f *pflag.FlagSet) {
	f.StringVarP(&s.output, "output", "o", "", "write spans to `FILE`, one OTLP JSON request a line; a file that "+
		"exists is overwritten (- is standard output)")
	f.StringVar(&s.endpoint, "otlp-endpoint", "", "send spans over OTLP to `URL`, as in http://127.0.0.1:4317 (gRPC) or "+
		"http://127.0.0.1:4318 (HTTP) (default: OTEL_EXPORTER_OTLP_ENDPOINT)")
	f.StringVar(&s.protocol, "otlp-protocol", "", "`PROTOCOL` of --otlp-endpoint: grpc or http/protobuf "+
		"(default grpc, unless the port is 4318 or there is a path)")
}

func (s *settings) spanNames(f *pflag.FlagSet, usage string) {
	f.StringVar(&s.names, "span-names", "", "how spans are called: contract (process.exec), verbs (exec git) or "+
		"readable (exec git commit -m x) ("+usage+")")
}

func (s *settings) kernel(f *pflag.FlagSet) {
	f.StringVar(&s.openHook, "open-hook", "", "form of the hooks for opens and the other system calls: "+
		"auto, trampoline or tracepoint (default auto)")
}

func (s *settings) confine(f *pflag.FlagSet) {
	f.BoolVar(&s.noConfine, "no-confine", false,
		"keep all capabilities and system calls after the start (docs/security.md)")
}

func (s *settings) log(f *pflag.FlagSet) {
	f.StringVar(&s.logLevel, "log-level", "", "debug, info, warn or error (default info)")
	f.StringVar(&s.logFormat, "log-format", "", "text or json (default text)")
}

// load reads the file, if there is one, with the rights of who called sudo, lays the flags that were given over it,
// and validates the whole.
func (s *settings) load() (_ *config.Config, err error) {
	if s.by, err = caller(); err != nil {
		return nil, &exitError{exitUsage, err}
	}
	s.owns = s.by
	c := config.Default()
	if s.file != "" {
		f, err := s.by.open(s.file)
		if err != nil {
			return nil, usageError("read the configuration: %w", err)
		}
		defer f.Close()
		if c, err = config.Read(f); err != nil {
			return nil, &exitError{exitUsage, err}
		}
		if ofRoot(s.file) {
			s.owns = identity{}
		}
	}
	for value, key := range map[*string]*string{
		&s.output: &c.Exporters.File.Path, &s.openHook: &c.OpenHook, &s.names: &c.SpanNames,
		&s.logLevel: &c.Log.Level, &s.logFormat: &c.Log.Format,
	} {
		if *value != "" {
			*key = *value
		}
	}
	if s.noConfine {
		c.Confine = false
	}
	if s.noPin {
		c.Pin = false
	}
	switch {
	case s.endpoint != "":
		c.Exporters.Send(s.endpoint, s.protocol)
	case s.protocol != "":
		return nil, usageError("--otlp-protocol goes with --otlp-endpoint")
	}
	if err := c.Validate(); err != nil {
		if s.file != "" {
			err = fmt.Errorf("%s: %w", s.file, err)
		}
		return nil, &exitError{exitUsage, err}
	}
	return c, nil
}

// administer is load for a command that administers the host: what a configuration names that only root can have
// written is root's. Of another, keys that have the host's own places changed are refused: these are opened, listened
// on and removed as root.
func (s *settings) administer() (*config.Config, error) {
	c, err := s.load()
	if err != nil || !s.owns.other() {
		return c, err
	}
	if keys := hostsKeys(c); len(keys) > 0 {
		return nil, usageError("%s sets %s for user %s, who called sudo: "+
			"only a configuration below /etc that nobody but root can write may%s",
			s.file, strings.Join(keys, ", "), s.by.name, asRoot)
	}
	return c, nil
}

// hostsKeys are the keys with files that the host's sensor has to itself, as far as they are not at their defaults or
// empty.
func hostsKeys(c *config.Config) (keys []string) {
	d := config.Default()
	for _, k := range []struct {
		key   string
		value string
		fine  []string
	}{
		{"spool.path", c.Spool.Path, []string{config.NoSpool, config.DefaultSpool}},
		{"recorder.path", c.Recorder.Path, []string{config.NoRecorder, config.DefaultRecorder}},
		{"intake.unix", c.Intake.Unix, nil},
		{"containers.cri", strings.Join(c.Containers.CRI, " "), []string{config.BuiltIn}},
		{"containers.docker", strings.Join(c.Containers.Docker, " "), []string{config.BuiltIn}},
		{"containers.kubelet", c.Containers.Kubelet, []string{d.Containers.Kubelet}},
		{"socket", c.Socket, []string{d.Socket}},
		{"pin_path", c.PinPath, nil},
		{"journal", c.Journal, []string{config.NoJournal}},
	} {
		if k.value != "" && !slices.Contains(k.fine, k.value) {
			keys = append(keys, k.key)
		}
	}
	return keys
}

// sends is with whose rights an administering command opens what it needs to deliver: of the file, unless a flag or a
// variable says where spans go, by which way, who is trusted there or what is opened for it. Otherwise a caller would
// have root's credentials sent elsewhere.
func (s *settings) sends(environ []string) identity {
	named := func(pair string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(pair), "=")
		return strings.HasPrefix(name, "OTEL_EXPORTER_OTLP_") || strings.HasPrefix(name, "SSL_CERT_") ||
			strings.HasSuffix(name, "_PROXY")
	}
	if s.endpoint != "" || slices.ContainsFunc(environ, named) {
		return s.by
	}
	return s.owns
}

// logger writes to stderr.
func logger(l config.Log) *slog.Logger {
	var level slog.Level // info, if the configuration was not validated
	_ = level.UnmarshalText([]byte(l.Level))
	o := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(os.Stderr, o)
	if l.Format == config.FormatJSON {
		h = slog.NewJSONHandler(os.Stderr, o)
	}
	return slog.New(limit(h, time.Now))
}

// command takes what stands behind "--" (or the first argument that is no flag) as a command.
func command(f *pflag.FlagSet) { f.SetInterspersed(false) }

// needCommand is a cobra.PositionalArgs.
func needCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError("no command given, as in: %s -- CMD ARGS", cmd.CommandPath())
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
)

// settings are the flags that stand for keys of the configuration.
type settings struct {
	file, output, endpoint, openHook, logLevel, logFormat string
	noConfine                                             bool
	noPin                                                 bool
}

func (s *settings) config(f *pflag.FlagSet, usage string) {
	f.StringVar(&s.file, "config", "", usage)
}

func (s *settings) exporters(f *pflag.FlagSet) {
	f.StringVarP(&s.output, "output", "o", "", "write spans to `FILE`, begun anew if it exists, one OTLP JSON request a line (- is standard output)")
	f.StringVar(&s.endpoint, "otlp-endpoint", "", "send spans over OTLP/gRPC to `URL`, as in http://127.0.0.1:4317 (default: OTEL_EXPORTER_OTLP_ENDPOINT)")
}

func (s *settings) kernel(f *pflag.FlagSet) {
	f.StringVar(&s.openHook, "open-hook", "", "how opens, and all else that has two forms, are seen: auto, trampoline or tracepoint (default auto)")
}

func (s *settings) confine(f *pflag.FlagSet) {
	f.BoolVar(&s.noConfine, "no-confine", false, "keep all capabilities and system calls after the start (docs/security.md)")
}

func (s *settings) log(f *pflag.FlagSet) {
	f.StringVar(&s.logLevel, "log-level", "", "debug, info, warn or error (default info)")
	f.StringVar(&s.logFormat, "log-format", "", "text or json (default text)")
}

// load reads the file, if there is one, with the rights of who, lays the flags that were given over it, and validates the whole.
// An error tells nothing of a file that whoever called sudo cannot read.
func (s *settings) load(who identity) (*config.Config, error) {
	c := config.Default()
	if s.file != "" {
		err := who.rights(func() (err error) {
			c, err = config.Read(s.file)
			return err
		})
		if err != nil {
			return nil, &exitError{exitUsage, s.readable(err)}
		}
	}
	for value, key := range map[*string]*string{
		&s.output: &c.Exporters.File.Path, &s.openHook: &c.OpenHook, &s.logLevel: &c.Log.Level, &s.logFormat: &c.Log.Format,
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
	if s.endpoint != "" {
		c.Exporters.Send(s.endpoint)
	}
	if err := c.Validate(); err != nil {
		if s.file != "" {
			err = s.readable(fmt.Errorf("%s: %w", s.file, err))
		}
		return nil, &exitError{exitUsage, err}
	}
	return c, nil
}

// readable is err, or another in its place if the caller cannot open the file that err is about.
func (s *settings) readable(err error) error {
	who, callerErr := caller()
	if callerErr != nil {
		return callerErr
	}
	openErr := who.rights(func() error {
		f, err := os.OpenFile(s.file, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err == nil {
			_ = f.Close()
		}
		return err
	})
	if openErr != nil {
		return fmt.Errorf("read the configuration: %w", openErr)
	}
	return err
}

// logger writes to stderr.
func logger(l config.Log) *slog.Logger {
	level, err := l.SlogLevel()
	if err != nil { // validated before
		level = slog.LevelInfo
	}
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
		return &exitError{exitUsage, fmt.Errorf("no command given, as in: %s -- CMD ARGS", cmd.CommandPath())}
	}
	return nil
}

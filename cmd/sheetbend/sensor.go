// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/exporters/sessions"
	"github.com/sheetbend/sheetbend/exporters/watching"
)

func newSensor() *cobra.Command {
	s := &settings{}
	cmd := &cobra.Command{
		Use:   "sensor --config FILE",
		Short: "Watch the sandboxes of this host (daemon)",
		Long: `Watch what the configuration selects: cgroups by pattern, containers by what Kubernetes, Docker or
Podman call them, and agents wherever they are started, those that are there and those that come later.
Their spans go to the configured exporters, until SIGTERM or SIGINT: then everything seen so far is
delivered within five seconds, what is left waits on disk for the next start (docs/reliability.md), and
the exit code is 0. The hooks stay, and what they see waits in the kernel for the next sensor, unless
--no-pin is given; sheetbend unpin takes them away. A second signal ends the delivery at once. There is
no reload; SIGHUP has the span file opened anew.`,
		Example: `  sudo sheetbend sensor --config /etc/sheetbend/sheetbend.yaml

  # a small configuration
  sandboxes:
    - cgroup: /agents/*
    - agents: ["*"]
  exporters:
    otlp:
      endpoint: http://127.0.0.1:4317`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.loadDaemon(cmd)
			if err != nil {
				return err
			}
			if c.Spool.Path == "" {
				c.Spool.Path = config.DefaultSpool
			}
			if c.Recorder.Path == "" {
				c.Recorder.Path = config.DefaultRecorder
			}
			return daemon(cmd.Context(), c, s, cmd.Name(), "")
		},
	}
	f := cmd.Flags()
	s.config(f, "configuration `FILE` (docs/configuration.md)")
	s.exporters(f)
	s.spanNames(f, "default verbs")
	f.Lookup("output").Usage = "append spans to `FILE`, one OTLP JSON request a line (- is standard output)"
	s.kernel(f)
	f.BoolVar(&s.noPin, "no-pin", false, "leave nothing in the kernel: what happens until the next start is not seen")
	s.confine(f)
	s.log(f)
	return cmd
}

// loadDaemon loads the configuration of a command that watches configured sandboxes.
func (s *settings) loadDaemon(cmd *cobra.Command) (*config.Config, error) {
	if s.file == "" {
		return nil, &exitError{exitUsage, fmt.Errorf("%s needs --config FILE: its sandboxes are what is watched",
			cmd.Name())}
	}
	c, err := s.administer()
	if err != nil {
		return nil, err
	}
	if len(c.Sandboxes) == 0 {
		return nil, &exitError{exitUsage,
			fmt.Errorf("%s: no sandboxes: list what to watch, as in sandboxes: [{cgroup: /agents/*}] or [{agents: "+
				"[\"*\"]}]", s.file)}
	}
	return c, nil
}

// daemon watches until a signal ends it. With a captureName it writes a capture and no spans. s says who named what.
func daemon(ctx context.Context, c *config.Config, s *settings, name, captureName string) (err error) {
	example := name + " --config FILE"
	if captureName != "" {
		example = name + " --output FILE --config FILE"
	}
	if err := privileged(name, example); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // a heap of a few MiB is collected often for little, and the resident set stays small
	}
	log := logger(c.Log)
	hups := make(chan os.Signal, 1)
	signal.Notify(hups, unix.SIGHUP, unix.SIGPIPE)
	defer func() {
		signal.Stop(hups)
		close(hups)
	}()

	m, err := cgroup.Find()
	if err != nil {
		return err
	}
	c.ForRules()
	cc, err := collectorConfig(c, os.Getenv, false, log)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if err := refuseSelf(c, m); err != nil {
		return &exitError{exitUsage, err}
	}
	var undo, delivered cleanups
	defer undo.onError(&err)
	undo.add("after the delivery", delivered.run)
	closing := ctx
	o := watchOptions{config: c, collector: cc, mount: m, delivered: &delivered, log: log}
	if sockets := unixSockets(c, os.Getenv); c.Confine && len(sockets) > 0 {
		if o.dialer, err = startDialer(sockets); err != nil {
			return fmt.Errorf("start the process that connects to unix sockets (confine: false leaves that): %w", err)
		}
		undo.add("connections to unix sockets", o.dialer.close)
	}
	view, err := o.openOutputs(s, captureName)
	if o.outputs != nil {
		undo.add("spans", func() error { return o.outputs.close(closing) })
	}
	if o.capture != nil {
		undo.add("capture", o.capture.close)
	}
	if err != nil {
		return err
	}
	if o.outputs != nil && o.outputs.file != nil {
		go func() {
			for s := range hups {
				if s == unix.SIGHUP {
					o.outputs.file.Reopen()
				}
			}
		}()
	}
	var hub *watching.Hub
	if o.outputs != nil && c.Socket != "" && c.Watches.MaxPerUser > 0 {
		if err := placeAtRoot(m); err != nil {
			log.Warn("commands that users start in the root cgroup are not watched", "err", err)
		}
		hub = watching.New(build())
		o.views, o.asked = append(o.views, hub), findAsked(m)
	}
	w, err := startWatch(o)
	if err != nil {
		return err
	}
	defer w.undo.onError(&err)
	if hub != nil {
		w.users = openWatches(w, hub, o.asked, cc.BootID, c.Watches.MaxPerUser, log)
		w.inputs.add("commands of users", w.users.close)
	}
	var in *intake
	if c.Intake.Listen != "" || c.Intake.Unix != "" {
		if in, err = openIntake(c, cc.Agents, w, o.outputs, s.sends(os.Environ()), os.Getenv, log); err != nil {
			return err
		}
		delivered.add("agent telemetry", func() error { return in.close(closing) })
		log.Info("taking in agent telemetry", "listen", c.Intake.Listen, "unix", c.Intake.Unix, "forward_to", in.to)
	}
	serveLocal(c.Socket, w, cc.Agents, view, o.outputs, m, log)
	meters, err := serveMetrics(c.Metrics, w, o.outputs, in, view, log)
	if err != nil {
		return err
	}
	logPins(w.sensor.Pins(), log)
	ready, err := serviceReady(s.by)
	if err != nil {
		return err
	}
	if err := confineSelf(c, w, meters, log); err != nil {
		return err
	}
	w.ready(log)
	if err := ready(); err != nil {
		log.Warn(err.Error())
	}
	err = w.run(ctx)
	// A second signal ends the delivery of what waits.
	closing, stopClosing := signal.NotifyContext(context.WithoutCancel(ctx), unix.SIGTERM, unix.SIGINT)
	defer stopClosing()
	stop() // the feed may have ended by itself
	err = errors.Join(err, w.undo.run(), undo.run())
	logEnd(w, o.outputs, in, log)
	return err
}

// openOutputs opens where the spans of a daemon go, or its capture, with the rights of who named it. The view has what
// sheetbend sessions asks for; nil if no spans come. What is opened is in o, also when there is an error.
func (o *watchOptions) openOutputs(s *settings, captureName string) (view *sessions.View, err error) {
	if captureName != "" {
		o.capture, err = createCapture(s.by, captureName, o.collector)
		return nil, err
	}
	sends := s.sends(os.Environ())
	if sends.other() && len(backendSockets(o.config, os.Getenv)) > 0 {
		return nil, &exitError{exitUsage, fmt.Errorf(
			"the sensor sends nothing to a unix: endpoint for user %s, who called sudo: name an address%s",
			sends.name, asRoot)}
	}
	writes := s.owns
	if s.output != "" {
		writes = s.by
	}
	o.outputs, err = openOutputs(o.config, build(), writes, sends, identity{}, o.dialer, appendTo, show{}, os.Getenv,
		o.log)
	if err != nil {
		return nil, err
	}
	if o.outputs.encoder == nil && o.outputs.events == nil {
		return nil, &exitError{exitUsage, errors.New(
			"nowhere to send spans: set exporters.otlp.endpoint, exporters.file.path or recorder.path, " +
				"or OTEL_EXPORTER_OTLP_ENDPOINT")}
	}
	view = newView()
	o.views = append(o.views, view)
	o.pins = pinningOf(o.config, o.log)
	return view, nil
}

// ready gives back the memory that only the start took, and says what is watched.
func (w *watch) ready(log *slog.Logger) {
	debug.FreeOSMemory() // what loading the programs took
	if err := dropCode(); err != nil {
		log.Debug("more memory stays resident than need be", "error", err)
	}
	log.Info("watching", "version", build(), "sandboxes", w.pipeline.Feed.Stats().Sandboxes,
		"cgroup_mount", w.mount.Dir, "open_hook", w.form())
	for _, glob := range w.pipeline.Feed.Unmatched() {
		log.Warn("no cgroup matches yet: is the path relative to the cgroup v2 mount?",
			"sandbox", glob, "cgroup_mount", w.mount.Dir)
	}
}

// logEnd says what a watch did, and what it could not do.
func logEnd(w *watch, out *outputs, in *intake, log *slog.Logger) {
	stats := w.pipeline.Feed.Stats()
	attrs := []any{"records", stats.Records, "lost_in_kernel", stats.Lost}
	if w.pipeline.Collector != nil {
		attrs = append(attrs, "spans", w.pipeline.Collector.Stats().Spans)
	}
	if l, ok := log.Handler().(limited); ok && l.untold() > 0 {
		attrs = append(attrs, "log_lines_left_out", l.untold())
	}
	log.Info("ended", attrs...)
	for _, line := range w.refused() {
		log.Warn("had no effect: " + line)
	}
	lines := append(w.lost(), in.dropped()...)
	if out != nil {
		lines = append(lines, out.dropped()...)
	}
	for _, line := range lines {
		log.Warn("not all was delivered: " + line)
	}
}

// refuseSelf refuses selectors that choose the sensor: each of its spans would cause others.
func refuseSelf(c *config.Config, m cgroup.Mount) error {
	own, err := m.Of(os.Getpid())
	if err != nil {
		return nil // a host where this process is in no v2 cgroup that selectors could name
	}
	for i, s := range c.Sandboxes {
		if s.Cgroup == "" {
			continue
		}
		if g, err := cgroup.ParseGlob(s.Cgroup); err == nil && g.Selects(own) {
			return fmt.Errorf("sandboxes[%d].cgroup %s selects the sensor itself, which runs in %s: run it "+
				"elsewhere or narrow the pattern", i, s.Cgroup, own)
		}
	}
	return nil
}

// form is how file opens are seen.
func (w *watch) form() string {
	for _, h := range w.sensor.Hooks() {
		if h.Name == "open_file" || h.Name == "open_call" {
			return h.Form
		}
	}
	return "none"
}

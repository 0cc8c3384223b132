// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/confine"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/signals"
	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
	"github.com/sheetbend/sheetbend/exporters/sessions"
)

// noteAfter is how long the end may take before the user is told what it waits for.
const noteAfter = time.Second

// runOptions are the flags of run, and of record with a command.
type runOptions struct {
	settings
	session, agent, user string
	leftovers            string
	capture              string
	follow, quiet        bool
	tree, all            bool
	display              display
	captureOnly          bool
	agentTelemetry       bool
	noAgentArgs          bool
}

func (o *runOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	command(f)
	f.StringVar(&o.session, "session", "",
		"`ID` of the session the spans belong to; runs with the same ID are one session and share a trace (default: "+
			"the agent's own id, or one for each run)")
	f.StringVar(&o.agent, "agent", "", "`NAME` of the agent, exported as service.name (default: the command's)")
	f.StringVar(&o.user, "user", "",
		"run the command as user `NAME`, with the environment of a login and TERM, and no open files but the standard "+
			"ones (default: who called sudo, who may name nobody else)")
	f.StringVar(&o.leftovers, "leftovers", leftoversReport,
		"what to do about processes that outlive the command, those that left its cgroup included: report, wait or "+
			"kill")
	f.BoolVar(&o.noAgentArgs, "no-agent-args", false,
		"give the agent no arguments and variables that keep it from leaving its commands to a daemon outside of the "+
			"sandbox, and with --agent-telemetry no hooks; without this flag, a line says what it was given")
	o.settings.config(f, "configuration `FILE`; its sandboxes are not used")
	o.settings.kernel(f)
	f.BoolVarP(&o.quiet, "quiet", "q", false,
		"print no story and no notes, only what went wrong (and the lines of --follow)")
}

func newRun() *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run [flags] -- CMD ARGS...",
		Short: "Run a command in a sandbox of its own and show what it does",
		Long: `Run a command in a cgroup of its own, watched from its first instant, with the terminal and
signals as if it ran alone. When it has ended, its story is printed on stderr: of an agent what it
changed, where it connected, what to look at first, and a line or two for each of its tool calls; of
another command the sums, and the tree of its processes, files and connections.

Where a sensor runs on this host, no root is needed: it watches the command. Of programs that ran as
other users you then get a number only. --record, --agent-telemetry and --user take root.

The exit code is the command's. A signal that ended it ends sheetbend, too, so that scripts stop; where
it cannot, as in the first process of a container, the exit code is 128+N. It is 127 if the command was
not found, 126 if it cannot be executed, and 125 if it was not started for another reason: a wrong flag,
a host that lacks something.

Through sudo, the command runs as the user who called it, and is looked up in and gets that user's
PATH, which sudo replaces. What the configuration, the flags and the environment name is opened with that
user's rights, too. Where PATH cannot be known: sudo -E env "PATH=$PATH" sheetbend run …

A command that runs as another user cannot type into the terminal. Where standard input is a terminal
that is not that user's, and the kernel lets processes type, the command has one of its own, which ends
with it.

Some agents leave a daemon that runs the commands of later runs, where nothing is seen of them. Codex and
Cline are given an argument or a variable against that, and with --agent-telemetry Claude Code hooks for
this run; a line says what was added, and --no-agent-args leaves it out. An agent that talks to another
one's program outside of the sandbox is told of at once and at the end.

How to read the story: the heading says who, where and when, how many calls, and whether anything was
lost. Each call has its number, time, title, duration and outcome; below it what it changed in the end
(a file that was made and is gone again is not told), where it connected, and what it left running.
[!] marks what is to be looked at: secrets, changes outside of the workspace, refusals and the like. The
agents that a call started are indented below it. Numbers are those of the spans session.call,
session.end and sandbox.end.

How to read the tree (--tree): programs of one name that ended well are one row, ×N, with what all of
them did; files are folded by directory, with exact counts, and what an agent does for itself is a line.
--all folds nothing. NAME (FILE) is a program that calls itself NAME and is the file FILE. [forked] is
a process that goes on in its parent's program. Where the outcome is exec, the process went on as
another program: the same pid has a second row. The heading counts each file once, whoever used it; it
does not count names that do not exist, sockets included. Output thrown away (/dev/null) and
terminals that are not there (/dev/tty) are left out.`,
		Example: `  sheetbend run -- claude            # where a sensor runs; else: sudo -E sheetbend run …
  sudo -E sheetbend run --follow -- make test
  sudo -E sheetbend run --tree -- codex exec "fix the tests"
  sudo -E sheetbend run --output spans.jsonl --session "nightly-$(date +%F)" -- ./agent.sh
  sudo -E sheetbend run --otlp-endpoint http://127.0.0.1:4317 --agent-telemetry -- codex exec "fix the tests"`,
		Args: needCommand,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), args) },
	}
	o.flags(cmd)
	f := cmd.Flags()
	o.exporters(f)
	f.Lookup("output").Usage = "write spans to `FILE`, overwritten if it exists, one OTLP JSON request a line"
	f.StringVar(&o.capture, "record", "", "also capture the raw record stream to `FILE`, for sheetbend replay")
	o.spanNames(f, "default readable")
	f.BoolVarP(&o.follow, "follow", "f", false,
		"print a line for whatever happens, while it happens; a program has its line when it ends, or when it has "+
			"run for two seconds")
	f.BoolVar(&o.agentTelemetry, "agent-telemetry", false,
		"switch the agent's own OpenTelemetry on for this run, with hooks where it takes them so, read calls and "+
			"decisions from it and forward it")
	f.BoolVar(&o.tree, "tree", false, "after the story print the tree of programs, files and connections, too")
	f.BoolVar(&o.all, "all", false, "print the tree with nothing folded: every program and file, and what the agent does for itself")
	o.display.flags(f)
	return cmd
}

func (o *runOptions) check() error {
	switch o.leftovers {
	case leftoversReport, leftoversWait, leftoversKill:
	default:
		return &exitError{exitUsage, fmt.Errorf("--leftovers %s: not one of report, wait, kill", o.leftovers)}
	}
	if err := o.display.check(); err != nil {
		return err
	}
	if o.output == "-" || o.capture == "-" {
		return &exitError{exitUsage, errors.New("standard output is the command's own: name a FILE to write to")}
	}
	if len(o.session) > 256 || len(o.agent) > 256 {
		return &exitError{exitUsage, errors.New("--session and --agent are at most 256 bytes long")}
	}
	return nil
}

// run returns an exitError with the command's end, or nil for an exit code of 0.
func (o *runOptions) run(ctx context.Context, args []string) error {
	if err := o.check(); err != nil {
		return err
	}
	c, err := o.load()
	if err != nil {
		return err
	}
	if c.Exporters.File.Path == "-" {
		return &exitError{exitUsage,
			errors.New("exporters.file.path is standard output, which is the command's own: give --output FILE")}
	}
	who, err := identify(o.user, os.Geteuid(), os.Getenv)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	program, err := lookCommand(args[0], who)
	if err != nil {
		return err
	}
	status, err := o.watched(ctx, c, o.by, who, program, args)
	if _, has := errors.AsType[*exitError](err); err != nil && !has {
		err = &exitError{exitSheetbend, err}
	}
	if err != nil {
		return err
	}
	return ended(status)
}

// note reports something to the user in one line, unless it is to be quiet.
func (o *runOptions) note(format string, args ...any) {
	if !o.quiet {
		complain(format, args...)
	}
}

// watched runs the command in a session and returns how it ended. An error means that the
// command was not started; nothing is left behind then.
func (o *runOptions) watched(
	ctx context.Context, c *config.Config, by, who identity, program string, args []string,
) (status syscall.WaitStatus, err error) {
	name, example := "run", "run -- "+args[0]
	if o.captureOnly {
		name, example = "record", "record --output FILE -- "+args[0]
	}
	if err := privileged(name, example); err != nil {
		if os.Geteuid() != 0 {
			return o.asked(ctx, c, by, who, launch{program, args, who.environment(os.Environ())}, err)
		}
		return 0, err
	}
	m, err := cgroup.Find()
	if err != nil {
		return 0, err
	}
	// Before anything is made that a signal would leave behind.
	sent, err := watchSignals()
	if err != nil {
		return 0, err
	}
	term := openTTY()
	defer term.close()

	for _, line := range cleanSessions(m) {
		o.note("%s", line)
	}
	s, err := newSession(m)
	if err != nil {
		return 0, err
	}
	defer func() {
		if removeErr := s.remove(); removeErr != nil {
			complain("%v", removeErr)
		}
	}()

	r := &watchedRun{
		options: o, session: s, config: c, by: by, who: who, view: newView(), log: slog.New(&notes{}),
		command: launch{program, args, who.environment(os.Environ())},
	}
	r.closing, r.giveUp = context.WithCancel(ctx)
	defer r.giveUp()
	defer r.undo.onError(&err)
	defer func() {
		if r.watch != nil {
			r.watch.undo.onError(&err)
		}
	}()
	if err := r.begin(); err != nil {
		return 0, err
	}
	return r.supervise(ctx, term, sent)
}

// A watchedRun is a command in a session of its own, and all that watches it.
type watchedRun struct {
	options *runOptions
	session *session
	config  *config.Config
	by, who identity // who called sheetbend, and whom the command runs as
	command launch
	out     *outputs // nil where only a capture is made
	view    *sessions.View
	watch   *watch
	intake  *intake    // nil without --agent-telemetry
	outside *outsiders // nil where only a capture is made
	ran     ranPrograms
	log     *slog.Logger

	closing         context.Context // ends when the user no longer waits for the delivery
	giveUp          func()
	undo, delivered cleanups
}

// configure has the configuration watch the session alone.
func (r *watchedRun) configure() (collector.Config, error) {
	agent := r.options.agent
	if agent == "" {
		agent = filepath.Base(r.command.args[0])
	}
	c := r.config
	c.Containers = config.Containers{}
	c.Sandboxes = []config.Sandbox{{Cgroup: r.session.path, Session: r.options.session, Agent: agent}}
	c.Limits.SandboxRingBytes = 1 << 30 // all: there is no other
	c.Intake.Listen, c.Intake.Unix, c.Intake.Expose = "", "", false
	if r.options.agentTelemetry {
		c.Intake.Listen = "127.0.0.1:0"
	}
	c.ForPeople()
	cc, err := collectorConfig(c, os.Getenv, !r.who.login, r.log)
	if err == nil {
		cc.Sandboxes[0].Unknown = true
	}
	return cc, err
}

// begin has the session watched, and readies the command's environment. What it began is in undo and watch.undo, also
// when it fails.
func (r *watchedRun) begin() error {
	cc, err := r.configure()
	if err != nil {
		return err
	}
	withoutUnusable(r.config, r.by, r.log)
	table := agents.NewTable(cc.Agents)
	w := watchOptions{config: r.config, collector: cc, mount: r.session.mount, closeEvents: closeElsewhere, log: r.log}
	r.undo.add("after the delivery", r.delivered.run)
	if !r.options.captureOnly {
		o := r.options
		terminal := show{
			story: !o.quiet, tree: o.tree, all: o.all, follow: o.follow, to: os.Stderr, display: o.display,
			home: cmp.Or(r.who.home, os.Getenv("HOME")),
		}
		r.out, err = openOutputs(r.config, build(), r.who, r.by, r.by, nil, truncate, terminal, os.Getenv, r.log)
		if err != nil {
			return err
		}
		r.undo.add("spans", func() error { return r.out.close(r.closing) })
		r.outside = watchOutsiders(table, r.command, func(pid int) bool { return r.watch.inside(pid) }, func(o outsider) {
			r.options.note("%s", o)
		})
		r.undo.add("daemons of agents", r.outside.close)
		r.ran = ranPrograms{}
		w.views = []span.Sink{r.out, r.view, r.outside, r.ran}
	}
	if r.options.capture != "" {
		if w.capture, err = createCapture(r.who, r.options.capture, cc); err != nil {
			return err
		}
		r.undo.add("capture", w.capture.close)
	}
	// Loading raises the limit on locked memory on kernels before 5.11; the command should not inherit that.
	var memlock unix.Rlimit
	limited := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &memlock) == nil
	if r.watch, err = startWatch(w); err != nil {
		return err
	}
	if err := r.keepInside(table); err != nil {
		return err
	}
	if r.options.agentTelemetry {
		if r.intake, err = openIntake(r.config, cc.Agents, r.watch, r.out, r.by, os.Getenv, r.log); err != nil {
			return err
		}
		r.delivered.add("agent telemetry", func() error { return r.intake.close(r.closing) })
	}
	if limited {
		_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &memlock)
	}
	socket, err := runSocket(path.Base(r.session.path))
	if err != nil {
		r.log.Debug("no local API", "err", err)
	}
	served := serveLocal(socket, r.watch, cc.Agents, r.view, r.out, r.session.mount, r.log)
	if served {
		r.command.env = append(r.command.env, client.EnvSocket+"="+socket)
	}
	if r.options.agentTelemetry {
		h := hookProgram{reached: served, unwanted: r.options.noAgentArgs}
		if h.file, err = os.Executable(); err != nil {
			return fmt.Errorf("find the path of sheetbend: %w", err)
		}
		var line string
		r.command, line = switchOn(table, r.options.agent, r.command, r.who, r.intake, h, cc.Resource)
		r.options.note("%s", line)
	}
	return nil
}

// keepInside has an agent run its commands in the sandbox, and says what it did for that, or which daemon may run them
// elsewhere.
func (r *watchedRun) keepInside(table *agents.Table) error {
	var d *agents.Dialect
	var at int
	if err := r.who.rights(func() error {
		d, at = dialectOf(table, r.options.agent, r.command)
		return nil
	}); err != nil || d == nil {
		return err
	}
	var line string
	var kept bool
	if r.command, line, kept = keepInside(d, at, r.command, r.who, !r.options.noAgentArgs); line != "" {
		r.options.note("%s", line)
	}
	decided := line == "" && len(d.Run.Env)+len(d.Run.Args) > 0
	if kept || decided || d.Run.Daemon == "" {
		return nil
	}
	all := listening(os.Getpid(), func(openSocket) bool { return true })
	for _, name := range namesOf(holders(all, func(_ int, p seenProgram) bool { return table.Find(p.Program) == d })) {
		r.options.note("%s runs already, outside of the sandbox: what it does for %s is not seen", name, d.Name)
	}
	return nil
}

// supervise runs the command while its records are read, and ends both.
func (r *watchedRun) supervise(
	ctx context.Context, term *tty, sent <-chan signals.Sent,
) (status syscall.WaitStatus, err error) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	read := make(chan error, 1)
	go func() { read <- r.watch.run(reading) }()
	if r.out != nil && r.out.follow != nil {
		r.out.follow.Begin(time.Now())
	}
	status, owed, own, startErr := r.options.execute(r.session, r.who, r.command, term, sent)
	// Only from here on a signal is for sheetbend itself.
	asked := afterEnd(r.closing, sent, owed)
	left := leftovers{r.session, r.watch.pipeline}
	if startErr == nil {
		r.options.outlived(left, r.command.args[0], asked)
	}
	stop()
	endErr := errors.Join(<-read, r.outside.close())
	if startErr == nil {
		r.options.escaped(left)
	}
	own.close()
	endErr = errors.Join(endErr, r.deliver(asked, startErr == nil))
	if startErr != nil {
		return 0, errors.Join(startErr, endErr)
	}
	r.options.release(r.session)
	if endErr != nil {
		complain("%v", endErr)
	}
	return status, nil
}

// deliver ends the outputs and the watch, and concludes if the command ran. A signal ends the waiting.
func (r *watchedRun) deliver(asked <-chan os.Signal, ran bool) error {
	closed := make(chan error, 1)
	go func() { closed <- r.watch.undo.run() }()
	go func() {
		select {
		case <-asked:
			r.giveUp()
		case <-r.closing.Done():
		}
	}()
	patience := time.AfterFunc(noteAfter, func() {
		if names := r.out.waitsFor(); names != "" {
			r.options.note("waiting up to %s for %s to take the last spans (^C ends that)", r.out.shutdownWithin, names)
		}
	})
	err := r.undo.run()
	patience.Stop()
	if ran {
		r.options.conclude(r.watch, r.out, r.intake)
		if line := r.ran.unseen(r.watch.sensor.Hooks()); line != "" {
			complain("not all is shown: %s", line)
		}
		for _, line := range r.outside.lines() {
			complain("not all is shown: %s", line)
		}
	}
	return errors.Join(err, <-closed)
}

// conclude prints the story, and a line about what is missing in it. That stderr is gone is no
// error: the command's exit code counts.
func (o *runOptions) conclude(w *watch, out *outputs, in *intake) {
	lines := append(w.lost(), in.dropped()...)
	if out != nil {
		_ = out.render(os.Stderr)
		lines = append(lines, out.dropped()...)
	}
	if len(lines) > 0 {
		complain("not all is shown: %s", strings.Join(lines, ", "))
	}
	if refused := w.refused(); len(refused) > 0 {
		o.note("had no effect: %s", strings.Join(refused, ", "))
	}
	if w.pipeline.Collector != nil {
		for _, hint := range w.pipeline.Collector.Stats().Hints {
			o.note("%s", hint)
		}
	}
}

// privileged says what is missing before anything is tried.
func privileged(name, example string) error {
	caps, err := confine.Current()
	lacks := lacking(caps)
	if err != nil || lacks == 0 {
		return nil // the kernel knows
	}
	if os.Geteuid() == 0 || lacks != loading {
		return fmt.Errorf("%s lacks %s: add them to the container or unit it runs in",
			name, strings.Join(lacks.Names(), ", "))
	}
	return fmt.Errorf("%s needs root (or %s): try sudo -E sheetbend %s",
		name, strings.Join(loading.Names(), ", "), example)
}

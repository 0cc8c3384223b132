// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/signals"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// restWithin bounds how long the sensor may take to send what is left when the command has ended.
const restWithin = 10 * time.Second

// asked runs a command that the sensor of this host watches, as it does for users without rights. unable says why this
// process cannot do that itself.
func (o *runOptions) asked(
	ctx context.Context, c *config.Config, by, who identity, command launch, unable error,
) (status syscall.WaitStatus, err error) {
	switch {
	case o.captureOnly || o.capture != "":
		return 0, fmt.Errorf("%w (a capture of the raw records takes that, also where a sensor runs)", unable)
	case o.agentTelemetry:
		return 0, fmt.Errorf("%w (--agent-telemetry takes that; a sensor takes telemetry by intake.listen)", unable)
	}
	log := slog.New(&notes{})
	r := askedRun{options: o, config: c}
	sent, err := watchSignals()
	if err != nil {
		return 0, err
	}
	term := openTTY()
	defer term.close()
	if r.command, err = o.inside(c, command, who); err != nil {
		return 0, err
	}
	terminal := show{
		story: !o.quiet, tree: o.tree, all: o.all, follow: o.follow, to: os.Stderr, display: o.display,
		home: os.Getenv("HOME"),
	}
	withoutUnusable(c, by, log)
	if r.out, err = openOutputs(c, build(), who, by, by, nil, truncate, terminal, os.Getenv, log); err != nil {
		return 0, err
	}
	closing, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var undo cleanups
	defer undo.onError(&err)
	undo.add("spans", func() error { return r.out.close(closing) })
	if err := endedAlready(sent); err != nil {
		return 0, err
	}
	if err := r.start(unable); err != nil {
		return 0, errors.Join(endedAlready(sent), err)
	}
	if r.out.follow != nil {
		r.out.follow.Begin(time.Now())
	}
	v := supervisor{cmd: r.cmd, term: term, inside: r.inside}
	status, owed, err := v.wait(sent)
	if err != nil {
		return 0, err
	}
	if status.Signaled() {
		term.restore()
	}
	asked := afterEnd(closing, sent, owed)
	var lines []string
	if err := r.takeRest(asked); err != nil {
		lines = append(lines, err.Error())
	}
	go func() {
		select {
		case <-asked:
			giveUp()
		case <-closing.Done():
		}
	}()
	if err := undo.run(); err != nil {
		lines = append(lines, err.Error())
	}
	r.conclude(lines)
	return status, nil
}

// inside has an agent run its commands in the sandbox, as run does for root.
func (o *runOptions) inside(c *config.Config, command launch, who identity) (launch, error) {
	table := agents.NewTable(agents.Merge(agents.Builtin(), c.Agents))
	d, at := dialectOf(table, o.agent, command)
	if d == nil {
		return command, nil
	}
	changed, line, _ := keepInside(d, at, command, who, !o.noAgentArgs)
	if line != "" {
		o.note("%s", line)
	}
	return changed, nil
}

// An askedRun is a command that a sensor watches for a user.
type askedRun struct {
	options *runOptions
	config  *config.Config
	command launch
	out     *outputs

	cmd    *exec.Cmd
	conn   *net.UnixConn // to the sensor; nil: the command is watched already, by whoever watches this process
	cgroup string
	rest   chan error // what reading the frames ended with
	last   client.WatchEnd
}

// start starts the command, once the sensor watches it.
func (r *askedRun) start(unable error) error {
	agent := cmp.Or(r.options.agent, filepath.Base(r.command.args[0]))
	request, err := json.Marshal(client.Request{
		Op: client.OpWatch, Mark: client.Mark{Session: r.options.session, Agent: agent},
	})
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "stage"), os.NewFile(uintptr(pair[1]), "stage")
	defer ours.Close()
	r.cmd = &exec.Cmd{
		Path: "/proc/self/exe", Args: append([]string{stageName, r.command.program}, r.command.args...),
		Env:   r.command.env,
		Stdin: standard(os.Stdin), Stdout: standard(os.Stdout), Stderr: standard(os.Stderr),
		ExtraFiles: []*os.File{theirs},
	}
	err = signals.Inherit(r.cmd.Start)
	_ = theirs.Close()
	if err != nil {
		return fmt.Errorf("start the command: %w", err)
	}
	if err := r.handshake(ours, request, unable); err != nil {
		_ = ours.Close() // it ends by that
		_ = r.cmd.Wait()
		return err
	}
	return nil
}

// handshake tells the stage what to ask, and to run the command if the answer lets it.
func (r *askedRun) handshake(stage *os.File, request []byte, unable error) error {
	socket := client.Default().Socket()
	if _, err := stage.Write([]byte(socket + "\x00" + string(request) + "\n")); err != nil {
		return err
	}
	said, fd, err := hear(stage)
	if err != nil {
		return err
	}
	if len(said) == 0 {
		return errors.New("the command has ended before it was started")
	}
	if said[0] != stageAnswer {
		switch errno := errnoOf(said[1:]); errno {
		case unix.ENOENT, unix.ECONNREFUSED:
			return fmt.Errorf("%w, or start the sensor (sudo sheetbend sensor --config FILE): then it needs none", unable)
		default:
			return fmt.Errorf("ask the sensor at %s: %w", socket, errno)
		}
	}
	conn := os.NewFile(uintptr(fd), "sensor")
	defer conn.Close()
	var answer client.Response
	if err := json.Unmarshal(said[1:], &answer); err != nil {
		return fmt.Errorf("read the sensor's answer: %w", err)
	}
	switch {
	case answer.Error != "":
		return fmt.Errorf("the sensor does not watch the command: %s", answer.Error)
	case answer.Watched:
		r.options.note("what runs here is watched already: this command is in the same sandbox, and has no story of its own")
	case !answer.Stream:
		return errors.New("the sensor is of an older version, and watches no commands of users: restart it")
	default:
		c, err := net.FileConn(conn)
		if err != nil {
			return err
		}
		r.conn = c.(*net.UnixConn) //nolint:forcetypeassert // of a unix socket
		r.cgroup, r.rest = answer.Cgroup, make(chan error, 1)
		go func() { r.rest <- r.read() }()
	}
	if _, err := stage.Write([]byte{stageGo}); err != nil {
		return err
	}
	// Closed by the exec, or what it failed with.
	if said, _, err = hear(stage); err != nil || len(said) == 0 {
		return err
	}
	return startError(r.command.args[0], errnoOf(said[1:]))
}

// hear reads what a stage says, and the file beside it; -1: none. Nothing: it has closed the connection.
func hear(stage *os.File) (said []byte, fd int, err error) {
	said, oob := make([]byte, client.MaxRequest+1), make([]byte, unix.CmsgSpace(4))
	fd = -1
	n, oobn, _, _, err := unix.Recvmsg(int(stage.Fd()), said, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, -1, err
	}
	if messages, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(messages) == 1 {
		if fds, err := unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
			fd = fds[0]
		}
	}
	return said[:n], fd, nil
}

func errnoOf(text []byte) syscall.Errno {
	n, err := strconv.Atoi(string(text))
	if err != nil || n <= 0 {
		return unix.EIO
	}
	return syscall.Errno(n)
}

// read gives what the sensor sees to the outputs, until it has no more.
func (r *askedRun) read() (err error) {
	var d otlp.Decoder
	var sink span.Sink = r.out
	r.last, err = client.ReadFrames(bufio.NewReader(r.conn), func(traces []byte) error {
		err := d.Decode(traces, sink)
		sink.Flush()
		return err
	})
	sink.Flush()
	return err
}

// inside says whether a process is of the sandbox. Of one that was watched already nobody says here where it ends.
func (r *askedRun) inside(pid int) bool {
	m, err := cgroup.Find()
	return err == nil && r.cgroup != "" && (&session{mount: m, path: r.cgroup}).holds(pid)
}

// takeRest tells the sensor that the command has ended, and waits for what is left of its spans.
func (r *askedRun) takeRest(asked <-chan os.Signal) error {
	if r.conn == nil {
		return nil
	}
	defer func() { _ = r.conn.Close() }()
	if m, err := cgroup.Find(); err == nil {
		r.options.outlived(leftovers{session: &session{mount: m, path: r.cgroup}}, r.command.args[0], asked)
	}
	if len(r.out.Sinks) == 0 {
		return nil // nobody would see it
	}
	_ = r.conn.CloseWrite()
	_ = r.conn.SetReadDeadline(time.Now().Add(restWithin))
	select {
	case err := <-r.rest:
		return err
	case <-asked:
		_ = r.conn.Close()
		return <-r.rest
	}
}

// conclude prints the story, and what is missing in it.
func (r *askedRun) conclude(lines []string) {
	_ = r.out.render(os.Stderr)
	if r.last.Dropped > 0 {
		lines = append(lines, count(r.last.Dropped, "span")+" lost: this process took them too slowly")
	}
	if lines = append(lines, r.out.dropped()...); len(lines) > 0 {
		complain("not all is shown: %s", strings.Join(lines, ", "))
	}
	if r.last.Others > 0 {
		r.options.note("%s of other users ran, and what they did is not shown: root sees it (sudo sheetbend story)",
			count(r.last.Others, "program"))
	}
}

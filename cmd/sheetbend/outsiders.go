// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

const (
	// maxConnects bounds the connections that wait to be looked at, maxPeers those that were and are remembered.
	maxConnects = 256
	maxPeers    = 4096
	// maxOutsiders bounds those that are told of by name.
	maxOutsiders = 16
	// lookedWithin is how long the looking may go on after the end: a file system of the sandbox's own may never answer.
	lookedWithin = 5 * time.Second
)

// hosts run programs of all kinds, and servers that have nothing to do with an agent.
var hosts = []string{"java", "ruby", "perl", "php", "dotnet", "mono", "beam.smp", "erl", "lua", "R", "julia", "guile"}

// An outsider is a process outside of the sandbox that an agent inside talks to, and that runs an agent's program: a
// daemon of an earlier run, as some agents leave. What it does for the agent is not seen, and the user has to know.
type outsider struct {
	pid          int
	name, client string          // of both, with their pids
	dialect      *agents.Dialect // nil: of an agent that nobody knows
}

func (o outsider) String() string {
	does := ""
	if o.dialect != nil && o.dialect.Run.Daemon != "" {
		does = " (" + o.dialect.Run.Daemon + ")"
	}
	line := fmt.Sprintf("%s talks to %s, which runs outside of the sandbox%s: what that does for it is not seen",
		o.client, o.name, does)
	if o.dialect != nil {
		line += fmt.Sprintf("; end it (kill %d) and run again", o.pid)
	}
	return line
}

// outsiders is a span.Sink that finds them by what is connected to, in a goroutine of its own. close has to follow.
type outsiders struct {
	table   *agents.Table
	inside  func(pid int) bool
	command launch // of the run: an agent also where no dialect is its
	file    fileID // of its program
	tell    func(outsider)

	asked  chan peer
	once   sync.Once // closes it
	done   chan struct{}
	passed uint64 // connections that were not looked at

	mu    sync.Mutex
	found []outsider
	more  uint64 // of which too many were found
}

// A peer is what a process in the sandbox has connected to.
type peer struct {
	pid           int
	program       string // path of its executable
	unix          bool
	address, name string // of a unix socket, and what was asked for if that is another
	port          uint16 // of TCP
}

// watchOutsiders has tell called once for each, from another goroutine.
func watchOutsiders(table *agents.Table, l launch, inside func(pid int) bool, tell func(outsider)) *outsiders {
	o := &outsiders{
		table: table, inside: inside, command: launch{program: resolved(l.program), args: l.args}, tell: tell,
		asked: make(chan peer, maxConnects), done: make(chan struct{}),
	}
	o.file, _ = fileOf(l.program)
	go func() {
		defer close(o.done)
		seen := map[peer]bool{}
		for p := range o.asked {
			if seen[p] {
				continue
			}
			if len(seen) >= maxPeers {
				clear(seen)
			}
			seen[p] = true
			o.look(p)
		}
	}()
	return o
}

// close waits until all connections have been looked at, while the sandbox is still watched. No span may come any more.
func (o *outsiders) close() error {
	if o == nil {
		return nil
	}
	o.once.Do(func() { close(o.asked) })
	select {
	case <-o.done:
		return nil
	case <-time.After(lookedWithin):
		return errors.New("not all connections could be looked at: they may be to daemons of agents")
	}
}

// Span implements span.Sink.
func (o *outsiders) Span(s *span.Span) {
	if s.Kind != span.Connect {
		return
	}
	a := span.Attrs(s.Attrs)
	if a.Text(span.KeyErrorType) != "" {
		return
	}
	pid, _ := a.Int(span.KeyPID)
	p := peer{pid: int(pid), program: a.Text(span.KeyExecutablePath)}
	switch address := a.Text(span.KeyPeerAddress); a.Text(span.KeyTransport) {
	case "unix":
		p.unix, p.address, p.name = true, address, a.Text(span.KeyPeerRequested)
	case "tcp":
		if ip, err := netip.ParseAddr(address); err != nil || !ip.IsLoopback() {
			return
		}
		port, _ := a.Int(span.KeyPeerPort)
		p.port = uint16(port)
	default:
		return
	}
	select {
	case o.asked <- p:
	default:
		o.passed++
	}
}

// Flush implements span.Sink.
func (o *outsiders) Flush() {}

// look finds who is behind a connection.
func (o *outsiders) look(p peer) {
	client, ok := runningIn(p.pid)
	if !ok || client.Executable != p.program {
		// It has ended, or goes on with another program.
		client = seenProgram{Program: agents.Program{Executable: p.program}}
	}
	// An interpreter is the program of many others.
	own := p.program == o.command.program && !client.Interprets() && !slices.Contains(hosts, path.Base(p.program))
	if o.table.Find(client.Program) == nil && !own {
		return
	}
	sockets := listening(p.pid, func(s openSocket) bool {
		if p.unix {
			return s.address != "" && (s.address == p.address || s.address == p.name)
		}
		return s.port != 0 && s.port == p.port
	})
	who := fmt.Sprintf("%s (%d)", path.Base(p.program), p.pid)
	dialects := map[int]*agents.Dialect{}
	for _, pid := range holders(sockets, func(pid int, r seenProgram) bool {
		same := own && r.file == o.file && r.name() == path.Base(o.command.args[0])
		dialects[pid] = o.table.Find(r.Program)
		return (same || dialects[pid] != nil) && !o.inside(pid)
	}) {
		if names := namesOf([]int{pid}); len(names) > 0 {
			o.add(outsider{pid: pid, name: names[0], client: who, dialect: dialects[pid]})
		}
	}
}

func (o *outsiders) add(found outsider) {
	o.mu.Lock()
	known := slices.ContainsFunc(o.found, func(f outsider) bool { return f.pid == found.pid })
	full := len(o.found) >= maxOutsiders
	switch {
	case known:
	case full:
		o.more++
	default:
		o.found = append(o.found, found)
	}
	o.mu.Unlock()
	if !known && !full {
		o.tell(found)
	}
}

// lines say at the end what is not shown. To be called after close.
func (o *outsiders) lines() (lines []string) {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range o.found {
		lines = append(lines, f.String())
	}
	if o.more > 0 {
		lines = append(lines, count(o.more, "connection")+" of agents to further programs of agents outside of the sandbox")
	}
	if o.passed > 0 {
		lines = append(lines, count(o.passed, "connection")+" not looked at: too many at once, and perhaps to daemons")
	}
	return lines
}

// SPDX-License-Identifier: Apache-2.0

package marker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/limit"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
	"github.com/sheetbend/sheetbend/enrich/socket"
)

const (
	// idleAfter is how long a client may take to send a request, and to read an answer.
	idleAfter = 5 * time.Second
	// maxAsking is how many lists and trees are made at once.
	maxAsking = 2
	// A recording goes out in chunks, each within idleAfter, and all within streamAfter; to so many clients at once, and
	// to so many of one tenant.
	chunkBytes      = 64 << 10
	streamAfter     = time.Minute
	maxStreams      = 16
	maxTenantStream = 2
	// resultWithin is how long an answer waits for the mark's result. The stream is about 0.1 s behind unless it is
	// flooded.
	resultWithin = 500 * time.Millisecond
)

// View answers questions about sessions: exporters/sessions. It is called from many goroutines.
type View interface {
	// List gives the sessions that the user may see.
	List(uid uint32) []client.Session
	// Tree gives one of them; nil if there is no such session, or the user may not see it.
	Tree(uid uint32, session string) *client.Tree
}

// Recordings are what is kept on disk of sessions: exporters/recorder. It is called from many goroutines.
type Recordings interface {
	// List gives those that the user may see.
	List(uid uint32) []client.Recording
	// OpenRecording opens one by its name; nil if there is no such recording, or the user may not see it.
	OpenRecording(uid uint32, name string) (io.ReadCloser, error)
	// Remove removes one, and says whether there was one.
	Remove(name string) (bool, error)
}

// Watches has commands of users watched. It is called from many goroutines.
type Watches interface {
	// Open has a process of a user watched that waits for the answer. nil: it is in a sandbox already. The error says
	// in words for that user why it is not watched.
	Open(w Asked) (Watch, error)
}

// Asked is who asks to be watched, and what spans are to call it.
type Asked struct {
	PID            int
	Alive          func() error // an error once the process has ended; until Open returns
	UID            uint32
	Session, Agent string // "": not told
}

// A Watch is what a user had watched.
type Watch interface {
	// Cgroup is where it is, a path from the cgroup v2 mount.
	Cgroup() string
	// Next waits for the next frame (client.FrameSpans and so on) with its length before it. false: there is none.
	Next() (frame []byte, ok bool)
	// Ended says that the command has ended, or that nobody knows of it any more: the last frame follows.
	Ended()
	// Close ends the frames. It follows in any case.
	Close()
}

// Options configure a Server. Path, Inject and Clock are needed.
type Options struct {
	Path string
	// Inject puts a Mark record into the record stream: live.Feed's.
	Inject func(raw []byte) bool
	// InjectForResult does so, too, and reports afterwards whether the mark had an effect, from any goroutine. nil:
	// no answer waits for a result.
	InjectForResult func(raw []byte, result func(effective bool)) bool
	// Clock gives ns of CLOCK_BOOTTIME: live.SystemClock.
	Clock func() (boot uint64, wall int64, err error)
	View  View // nil: nothing is shown
	// Recordings are shown and handed out; nil: there are none.
	Recordings Recordings
	// Watches has commands of users watched; nil: none is.
	Watches Watches
	// Sandbox names the sandbox of a process that is watched, by its cgroup (a path from the cgroup v2 mount) or by
	// its lineage; "" if it is not. Who is in one is shown nothing, and may name no cgroup. nil: nobody is.
	Sandbox func(pid int, uid uint32, cgroup string) string
	// Dialects are the agents whose hooks the sensor knows: the answer to OpHook.
	Dialects []agents.Dialect
	// CgroupOf gives the path of a process's cgroup from the mount; it has to be given.
	CgroupOf func(pid int) (string, error)
	// CgroupID gives the id of a cgroup by its path from the mount. nil: no cgroup can be named, and no peer outside
	// of the sandboxes is believed.
	CgroupID func(cgroup string) (uint64, error)
	Log      *slog.Logger // discards if nil
}

// Stats count what a Server did.
type Stats struct {
	Marks   uint64 // put into the stream
	Refused uint64 // connections and requests, for whatever reason
	// Displaced are idle connections that were ended because others needed their place.
	Displaced uint64
}

// A Server serves the local API until it is closed.
type Server struct {
	o      Options
	l      *socket.Listener
	slots  *limit.Slots[tenant, *rate.Limiter]
	asking chan struct{}

	marks, refused atomic.Uint64

	mu     sync.Mutex
	conns  map[*net.UnixConn]struct{}
	closed bool
	// streams are the recordings that go out, by who gets them.
	streams map[tenant]int
	wait    sync.WaitGroup
}

// Listen makes the socket and serves it from goroutines of its own. Close has to follow.
func Listen(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l, err := listen(o.Path)
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, l: l, slots: newSlots(), asking: make(chan struct{}, maxAsking),
		conns: make(map[*net.UnixConn]struct{}), streams: make(map[tenant]int),
	}
	s.wait.Go(s.accept)
	return s, nil
}

// Stats may be called at any time.
func (s *Server) Stats() Stats {
	_, displaced := s.slots.Count()
	return Stats{Marks: s.marks.Load(), Refused: s.refused.Load(), Displaced: displaced}
}

// Close ends all connections, removes the socket and returns when nothing is served any more.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	err := s.l.Close()
	s.wait.Wait()
	if err != nil {
		return fmt.Errorf("close the socket: %w", err)
	}
	return nil
}

func (s *Server) accept() {
	for {
		conn, err := s.l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, most likely
			s.o.Log.Warn("local API: cannot accept a connection", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		p, err := s.identify(conn)
		if err == nil {
			err = s.admit(&p, conn)
		}
		if err != nil {
			s.refuse(conn, p, err)
			_ = conn.Close()
			continue
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			_ = conn.Close()
			continue
		}
		s.conns[conn] = struct{}{}
		s.wait.Go(func() {
			watch := s.connection(conn, p)
			s.slots.Leave(p.slot)
			if watch != nil {
				follow(conn, watch) // it has a bound of its own
			}
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
			_ = conn.Close()
		})
		s.mu.Unlock()
	}
}

// connection serves one client. A watch that it returns has to be followed.
func (s *Server) connection(conn *net.UnixConn, p peer) Watch {
	r := &reader{conn: conn, peer: p.pid, pidfd: -1}
	defer r.close()
	for {
		_ = conn.SetDeadline(time.Now().Add(idleAfter))
		line, pidfd, err := r.line()
		if err != nil {
			if errors.Is(err, errRequest) {
				s.refuse(conn, p, err)
			}
			return nil
		}
		answer, stream, watch, err := s.request(p, line, pidfd)
		s.slots.Used(p.slot)
		if pidfd >= 0 {
			_ = unix.Close(pidfd)
		}
		if err != nil {
			s.refuse(conn, p, err)
			continue
		}
		sent := send(conn, answer)
		if watch != nil {
			return watch
		}
		if !sent || stream != nil && !s.stream(conn, p, stream) {
			return nil
		}
	}
}

// A peer is who sends.
type peer struct {
	process
	tenant
	cgroup string
	inside bool
	slot   *slot
}

// admit takes a slot for the connection.
func (s *Server) admit(p *peer, conn *net.UnixConn) error {
	now, _, err := s.o.Clock()
	if err != nil {
		return err
	}
	if p.slot = s.slots.Take(p.tenant, at(now), func() { _ = conn.Close() }); p.slot == nil {
		return errors.New("too many connections")
	}
	return nil
}

func (s *Server) identify(conn *net.UnixConn) (peer, error) {
	proc, err := peerOf(conn)
	p := peer{process: proc, tenant: tenant{uid: proc.uid}}
	if err != nil {
		return p, err
	}
	// A peer that ends now and whose pid is used again could be taken for one in another cgroup: that decides
	// about its quota and what it is shown, no more; and what it is shown goes to a dead process.
	p.cgroup, err = s.o.CgroupOf(proc.pid)
	if err != nil {
		return p, err
	}
	if s.o.Sandbox != nil {
		if name := s.o.Sandbox(proc.pid, proc.uid, p.cgroup); name != "" {
			p.inside, p.tenant = true, tenant{sandbox: name}
		}
	}
	return p, nil
}

func (s *Server) refuse(conn *net.UnixConn, p peer, err error) {
	s.refused.Add(1)
	s.o.Log.Debug("local API: refused", "pid", p.pid, "uid", p.process.uid, "err", err)
	_ = conn.SetWriteDeadline(time.Now().Add(idleAfter))
	send(conn, client.Response{Error: err.Error()})
}

func send(conn *net.UnixConn, r client.Response) bool {
	line, err := json.Marshal(r)
	if err != nil {
		return false
	}
	_, err = conn.Write(append(line, '\n'))
	return err == nil
}

// request does what a request asks for. A stream is what the answer announces, to be closed, and so is a watch.
func (s *Server) request(
	p peer, line []byte, pidfd int,
) (answer client.Response, stream io.ReadCloser, watch Watch, err error) {
	now, _, err := s.o.Clock()
	if err != nil {
		return client.Response{}, nil, nil, err
	}
	r, err := decodeRequest(line)
	price := askCosts
	if r.Op == client.OpBegin || r.Op == client.OpEnd || r.Op == client.OpHook || err != nil {
		price = markCosts
	}
	if !pay(p.slot, price, now) {
		return client.Response{}, nil, nil,
			errors.New("too many requests of this sandbox or user: at most 200 marks in a second")
	}
	if err != nil {
		return client.Response{}, nil, nil, err
	}
	switch r.Op {
	case client.OpSessions, client.OpSession:
		answer, err = s.ask(p, r)
	case client.OpRecordings, client.OpSpans, client.OpForget:
		answer, stream, err = s.recording(p, r)
	case client.OpWatch:
		answer, watch, err = s.watch(p, r)
	case client.OpHook:
		answer, err = s.hook(r.Agent)
	default:
		answer, err = s.mark(p, r, now, pidfd)
	}
	return answer, stream, watch, err
}

func (s *Server) ask(p peer, r client.Request) (client.Response, error) {
	switch {
	case s.o.View == nil:
		return client.Response{}, errors.New("this sensor keeps no view of its sessions")
	case p.inside:
		return client.Response{}, errors.New("sessions are not shown to processes in a sandbox")
	}
	s.asking <- struct{}{}
	defer func() { <-s.asking }()
	if r.Op == client.OpSessions {
		list := s.o.View.List(p.process.uid)
		if list == nil {
			list = []client.Session{}
		}
		return client.Response{OK: true, Sessions: list}, nil
	}
	tree := s.o.View.Tree(p.process.uid, r.Session)
	if tree == nil {
		return client.Response{}, fmt.Errorf("there is no session %q, or not one of yours", r.Session)
	}
	return client.Response{OK: true, Session: tree}, nil
}

// hook answers with names of fields only: nothing in it is of the sensor or of another user.
func (s *Server) hook(agent string) (client.Response, error) {
	d := agents.Find(s.o.Dialects, agent)
	if d == nil {
		return client.Response{OK: true}, nil
	}
	text, err := json.Marshal(d.Hook)
	return client.Response{OK: err == nil, Hook: text}, err
}

func (s *Server) mark(p peer, r client.Request, now uint64, pidfd int) (client.Response, error) {
	m := record.Mark{
		Op: record.MarkBegin, UID: p.process.uid, Source: record.SourceAPI,
		Agent: r.Agent, Session: r.Session, Call: r.Call, Tool: r.Tool, Traceparent: r.Traceparent,
	}
	m.More = m.More.With(record.MoreCommand, r.Command).With(record.MoreThread, r.Thread)
	said, untold := m.More, r.Untold
	for _, path := range r.Paths {
		with := said.With(record.MorePath, path)
		untold = untold || path != "" && with == said
		said = with
	}
	if untold { // first, so that there is room
		said = m.More.With(record.MoreUntold, "1")
		for _, path := range r.Paths {
			said = said.With(record.MorePath, path)
		}
	}
	m.More = said
	if r.Op == client.OpEnd {
		m.Op = record.MarkEnd
	}
	if r.Source == client.SourceHook {
		m.Source = record.SourceHook
	}
	if r.PID != 0 || pidfd >= 0 {
		target, err := serves(p.process, r.PID, pidfd)
		switch {
		case err == nil:
			m.TargetTgid, m.TargetStart = uint32(target.pid), target.start
		case r.Op == client.OpEnd && errors.Is(err, errGone):
			// A shell that has ended serves no call any more; the mark still ends the call.
		default:
			return client.Response{}, err
		}
	}
	if r.Cgroup != "" {
		if p.process.uid != 0 || p.inside || s.o.CgroupID == nil {
			return client.Response{}, errors.New("cgroup: only root outside of every sandbox may name one")
		}
		id, err := s.o.CgroupID(r.Cgroup)
		if err != nil {
			return client.Response{}, err
		}
		m.Cgroup = id
	}
	if s.o.CgroupID != nil && !p.inside {
		// Without it the collector decides by lineage alone. The process is still there: it waits for the answer.
		if id, err := s.o.CgroupID(p.cgroup); err == nil {
			m.PeerCgroup = id
		}
	}
	raw := record.AppendMark(nil, now, uint32(p.pid), p.start, m)
	result := make(chan bool, 1)
	waits := s.o.InjectForResult != nil && m.Source != record.SourceHook // an agent waits for its hook
	var injected bool
	if waits {
		injected = s.o.InjectForResult(raw, func(effective bool) { result <- effective })
	} else {
		injected = s.o.Inject(raw)
	}
	if !injected {
		return client.Response{}, errors.New("the sensor is busy or ending: the mark was not taken")
	}
	s.marks.Add(1)
	if !waits {
		return client.Response{OK: true}, nil
	}
	select {
	case effective := <-result:
		if !effective {
			return client.Response{}, errors.New("the mark has no effect: its sender may not speak for this call, " +
				"or none is open (docs/local-api.md says who may)")
		}
		return client.Response{OK: true, Judged: true}, nil
	case <-time.After(resultWithin):
		return client.Response{OK: true}, nil
	}
}

// SPDX-License-Identifier: Apache-2.0

package marker

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

// watch has the peer watched, and nobody else: it is the kernel that says who that is.
func (s *Server) watch(p peer, r client.Request) (client.Response, Watch, error) {
	switch {
	case p.inside:
		return client.Response{OK: true, Watched: true}, nil, nil
	case s.o.Watches == nil:
		return client.Response{}, nil, errors.New("this sensor watches no commands for users: " +
			"set watches.max_per_user in its configuration")
	}
	pidfd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return client.Response{}, nil, errGone
	}
	defer unix.Close(pidfd)
	if start, err := startOf(p.pid, pidfd); err != nil || start != p.start {
		return client.Response{}, nil, errGone
	}
	w, err := s.o.Watches.Open(Asked{
		PID: p.pid, Alive: func() error { return alive(pidfd) }, UID: p.process.uid, Session: r.Session, Agent: r.Agent,
	})
	if err != nil {
		return client.Response{}, nil, err
	}
	if w == nil {
		return client.Response{OK: true, Watched: true}, nil, nil
	}
	return client.Response{OK: true, Stream: true, Cgroup: w.Cgroup()}, w, nil
}

// restWithin bounds how long a client may take for what is left when its command has ended.
const restWithin = 30 * time.Second

// follow sends the frames of a watch. Who reads slowly, or is stopped, is waited for while the command runs: what a Watch
// keeps is bounded. The client says that the command has ended by closing its end for writing, or by ending.
func follow(conn *net.UnixConn, w Watch) {
	_ = conn.SetDeadline(time.Time{})
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = conn.Read(make([]byte, 1)) // nobody has anything to say here any more
		_ = conn.SetWriteDeadline(time.Now().Add(restWithin))
		w.Ended()
	}()
	for {
		frame, ok := w.Next()
		if !ok {
			break
		}
		if _, err := conn.Write(frame); err != nil {
			break
		}
	}
	_ = conn.Close()
	<-read
	w.Close()
}

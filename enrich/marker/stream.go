// SPDX-License-Identifier: Apache-2.0

package marker

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

// stream sends a recording, and closes it.
func (s *Server) stream(conn *net.UnixConn, p peer, from io.ReadCloser) bool {
	defer s.endStream(p)
	defer from.Close()
	end := time.Now().Add(streamAfter)
	chunk := make([]byte, 4+chunkBytes)
	for {
		n, err := io.ReadFull(from, chunk[4:])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			s.o.Log.Warn("local API: cannot read a recording", "err", err)
			return false // the client misses the end
		}
		if time.Now().After(end) {
			return false
		}
		_ = conn.SetWriteDeadline(time.Now().Add(idleAfter))
		binary.BigEndian.PutUint32(chunk, uint32(n))
		if _, err := conn.Write(chunk[:4+n]); err != nil {
			return false
		}
		s.slots.Used(p.slot)
		if n == 0 {
			return true
		}
	}
}

// beginStream takes a place for a recording that goes out.
func (s *Server) beginStream(p peer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := 0
	for _, n := range s.streams {
		all += n
	}
	if all >= maxStreams && p.tenant != rootOutside || s.streams[p.tenant] >= maxTenantStream {
		return false
	}
	s.streams[p.tenant]++
	return true
}

func (s *Server) endStream(p peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[p.tenant]--; s.streams[p.tenant] == 0 {
		delete(s.streams, p.tenant)
	}
}

// recording lists, hands out or removes what is recorded.
func (s *Server) recording(p peer, r client.Request) (_ client.Response, stream io.ReadCloser, err error) {
	none := fmt.Errorf("there is no recording %q, or not one of yours", r.Recording)
	switch {
	case p.inside:
		err = errors.New("recordings are not shown to processes in a sandbox")
	case s.o.Recordings == nil && r.Op == client.OpRecordings:
		return client.Response{OK: true}, nil, nil
	case s.o.Recordings == nil:
		err = errors.New("this sensor records nothing: set recorder.path in its configuration")
	case r.Op == client.OpForget && p.process.uid != 0:
		// Who is watched as this user could have left its sandbox, and removed what tells of that.
		err = errors.New("only root removes recordings")
	case r.Op == client.OpForget:
		found, err := s.o.Recordings.Remove(r.Recording)
		if err == nil && !found {
			err = none
		}
		return client.Response{OK: err == nil}, nil, err
	case r.Op == client.OpRecordings:
		s.asking <- struct{}{}
		defer func() { <-s.asking }()
		return client.Response{OK: true, Recordings: s.o.Recordings.List(p.process.uid)}, nil, nil
	case !s.beginStream(p):
		err = errors.New("too many recordings are being read: try again")
	default:
		if stream, err = s.o.Recordings.OpenRecording(p.process.uid, r.Recording); stream == nil {
			s.endStream(p)
			return client.Response{}, nil, cmp.Or(err, none)
		}
		return client.Response{OK: true, Stream: true}, stream, nil
	}
	return client.Response{}, nil, err
}

// SPDX-License-Identifier: Apache-2.0

package marker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

// A reader reads lines from one client.
type reader struct {
	conn  *net.UnixConn
	peer  int
	buf   []byte
	pidfd int // that came and belongs to the line at hand; -1: none
	out   []byte
}

func (r *reader) close() {
	if r.pidfd >= 0 {
		_ = unix.Close(r.pidfd)
		r.pidfd = -1
	}
}

// line returns the next line and the pidfd that came with it, which the caller closes; -1 if there is none. Errors
// that wrap errRequest are the client's.
func (r *reader) line() ([]byte, int, error) {
	for {
		if i := bytes.IndexByte(r.buf, '\n'); i >= 0 {
			r.out = append(r.out[:0], r.buf[:i]...)
			r.buf = r.buf[:copy(r.buf, r.buf[i+1:])]
			fd := r.pidfd
			if fd >= 0 && len(r.buf) > 0 {
				return nil, -1, fmt.Errorf("%w: a pidfd with more than one request: wait for the answer in between",
					errRequest)
			}
			r.pidfd = -1
			return r.out, fd, nil
		}
		if len(r.buf) > client.MaxRequest {
			return nil, -1, fmt.Errorf("%w: longer than %d bytes", errRequest, client.MaxRequest)
		}
		if err := r.read(); err != nil {
			return nil, -1, err
		}
	}
}

func (r *reader) read() error {
	var chunk [4096]byte
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4))
	n, oobn, flags, _, err := r.conn.ReadMsgUnix(chunk[:], oob)
	if err != nil {
		return err
	}
	fds, sender, parseErr := control(oob[:oobn])
	for _, fd := range fds {
		if r.pidfd < 0 {
			r.pidfd = fd
			continue
		}
		_ = unix.Close(fd)
		parseErr = errors.New("more than one file descriptor")
	}
	switch {
	case parseErr != nil:
		return fmt.Errorf("%w: %w", errRequest, parseErr)
	case flags&unix.MSG_CTRUNC != 0:
		return fmt.Errorf("%w: more than one file descriptor", errRequest)
	case n == 0:
		return io.EOF
	case sender != r.peer:
		return fmt.Errorf("%w: another process than the one that connected writes here", errRequest)
	}
	r.buf = append(r.buf, chunk[:n]...)
	return nil
}

// control reads what came beside the bytes: file descriptors, and the pid of the sender.
func control(oob []byte) (fds []int, sender int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, 0, err
	}
	for i := range messages {
		switch messages[i].Header.Type {
		case unix.SCM_RIGHTS:
			got, rightsErr := unix.ParseUnixRights(&messages[i])
			fds = append(fds, got...)
			err = errors.Join(err, rightsErr)
		case unix.SCM_CREDENTIALS:
			cred, credErr := unix.ParseUnixCredentials(&messages[i])
			if credErr == nil {
				sender = int(cred.Pid)
			}
			err = errors.Join(err, credErr)
		}
	}
	return fds, sender, err
}

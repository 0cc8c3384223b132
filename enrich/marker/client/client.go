// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// EnvSocket names the socket. sheetbend run sets it for its command.
	EnvSocket = "SHEETBEND_SOCKET"
	// DefaultSocket is that of a sensor.
	DefaultSocket = "/run/sheetbend/sheetbend.sock"

	// patience bounds a request whose context has no deadline.
	patience = 5 * time.Second
	// maxAnswer bounds what is read from a sensor.
	maxAnswer = 64 << 20
)

// ErrAbsent is returned, wrapped, when no sensor serves the socket.
var ErrAbsent = errors.New("no sensor serves the socket")

// Error is a refusal by the sensor, with the text of its answer.
type Error struct{ Message string }

func (e *Error) Error() string { return "the sensor refused: " + e.Message }

// Client speaks to one sensor. Each request makes a connection of its own, so that a sensor may be restarted
// in between. It is safe for concurrent use.
type Client struct{ socket string }

// New returns a client of the sensor at a unix socket.
func New(socket string) *Client { return &Client{socket} }

// Default returns a client of the sensor at $SHEETBEND_SOCKET or, if that is not set, DefaultSocket.
func Default() *Client {
	if s := os.Getenv(EnvSocket); s != "" {
		return New(s)
	}
	return New(DefaultSocket)
}

// Socket is where the client looks for the sensor.
func (c *Client) Socket() string { return c.socket }

// Begin marks that a tool call begins. When it returns nil, the sensor has put the mark before everything that
// happens from now on, and has found that this process may speak for the call, which takes about a tenth of a
// second. The result is not waited for after a mark of a hook, nor for more than half a second: a mark that is not
// allowed has no effect then. Errors: ErrAbsent, *Error, or of the connection.
func (c *Client) Begin(ctx context.Context, m Mark) error { return c.mark(ctx, OpBegin, m) }

// End marks that a tool call has ended. Session, Call and PID are those of Begin. Errors as of Begin.
func (c *Client) End(ctx context.Context, m Mark) error { return c.mark(ctx, OpEnd, m) }

// Sessions lists what the sensor watches and the caller may see: root everything, others the
// sessions of their own processes. Errors as of Begin.
func (c *Client) Sessions(ctx context.Context) ([]Session, error) {
	r, err := c.do(ctx, Request{Op: OpSessions}, -1)
	return r.Sessions, err
}

// Session gives one session with its newest spans. Errors as of Begin.
func (c *Client) Session(ctx context.Context, id string) (*Tree, error) {
	r, err := c.do(ctx, Request{Op: OpSession, Mark: Mark{Session: id}}, -1)
	if err == nil && r.Session == nil {
		err = errors.New("the sensor's answer has no session in it")
	}
	return r.Session, err
}

// Recordings lists what the sensor has recorded and the caller may see, as of Sessions; nil if it records nothing.
// Errors as of Begin.
func (c *Client) Recordings(ctx context.Context) ([]Recording, error) {
	r, err := c.do(ctx, Request{Op: OpRecordings}, -1)
	return r.Recordings, err
}

// Forget removes a recording by its name: root only. Errors as of Begin.
func (c *Client) Forget(ctx context.Context, name string) error {
	_, err := c.do(ctx, Request{Op: OpForget, Recording: name}, -1)
	return err
}

// Recording opens a recording by its name: the file as the sensor has it (exporters/recorder reads it). Reading ends
// with io.EOF only after all of it. The caller closes it. Errors as of Begin.
func (c *Client) Recording(ctx context.Context, name string) (io.ReadCloser, error) {
	line, err := json.Marshal(Request{Op: OpSpans, Recording: name})
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	r := &chunks{conn: conn, in: bufio.NewReaderSize(conn, MaxRequest), stop: stop}
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err = conn.Write(append(line, '\n'))
	if err == nil {
		if line, err = r.in.ReadSlice('\n'); err == nil {
			var answer Response
			if answer, err = parse(line); err == nil && !answer.Stream {
				err = errors.New("there is no recording in it")
			}
		}
	}
	if err != nil {
		_ = r.Close()
		if _, refused := errors.AsType[*Error](err); refused {
			return nil, err
		}
		return nil, fmt.Errorf("ask the sensor for the recording: %w", err)
	}
	return r, nil
}

// maxChunk bounds a chunk of a recording.
const maxChunk = 1 << 20

// chunks reads a recording as it comes.
type chunks struct {
	conn net.Conn
	in   *bufio.Reader
	left int // of the chunk at hand
	over bool
	stop func() bool
}

// Read implements io.Reader.
func (c *chunks) Read(p []byte) (int, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	if c.left == 0 && !c.over {
		var head [4]byte
		if _, err := io.ReadFull(c.in, head[:]); err != nil {
			return 0, fmt.Errorf("read the recording: it was cut off: %w", noEOF(err))
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > maxChunk {
			return 0, errors.New("read the recording: the sensor sends what is no chunk of one")
		}
		c.left, c.over = int(n), n == 0
	}
	if c.over {
		return 0, io.EOF
	}
	n, err := c.in.Read(p[:min(len(p), c.left)])
	c.left -= n
	if err != nil {
		err = fmt.Errorf("read the recording: it was cut off: %w", noEOF(err))
	}
	return n, err
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Close implements io.Closer.
func (c *chunks) Close() error {
	c.stop()
	return c.conn.Close()
}

// Hook asks how the sensor reads what an agent sends its hooks: agents[].hook of its configuration, as JSON. nil if
// it knows no such agent. Errors as of Begin.
func (c *Client) Hook(ctx context.Context, agent string) (json.RawMessage, error) {
	r, err := c.do(ctx, Request{Op: OpHook, Mark: Mark{Agent: agent}}, -1)
	return r.Hook, err
}

func (c *Client) mark(ctx context.Context, op string, m Mark) error {
	pidfd := -1
	if m.PID != 0 {
		// The number may mean another process to the sensor, and be used again before it looks.
		var err error
		if pidfd, err = unix.PidfdOpen(m.PID, 0); err != nil {
			return fmt.Errorf("process %d: %w", m.PID, err)
		}
		defer unix.Close(pidfd)
	}
	_, err := c.do(ctx, Request{Op: op, Mark: m}, pidfd)
	return err
}

// do sends one request, with a file descriptor beside it unless that is negative, and reads the answer.
func (c *Client) do(ctx context.Context, r Request, fd int) (Response, error) {
	line, err := json.Marshal(r)
	if err != nil {
		return Response{}, fmt.Errorf("encode the request: %w", err)
	}
	line = append(line, '\n')
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return Response{}, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := send(conn, line, fd); err != nil {
		// The sensor may have refused the connection, and said why.
		if answer, readErr := receive(conn); readErr == nil {
			return answer, nil
		} else if e, ok := errors.AsType[*Error](readErr); ok {
			return Response{}, e
		}
		return Response{}, fmt.Errorf("send to the sensor: %w", err)
	}
	return receive(conn)
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "unix", c.socket)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("%w %s", ErrAbsent, c.socket)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the sensor: %w", err)
	}
	return conn, nil
}

func send(conn net.Conn, line []byte, fd int) error {
	u, ok := conn.(*net.UnixConn)
	if fd < 0 || !ok {
		_, err := conn.Write(line)
		return err
	}
	n, _, err := u.WriteMsgUnix(line, unix.UnixRights(fd), nil)
	if err == nil && n < len(line) {
		_, err = conn.Write(line[n:])
	}
	return err
}

func receive(conn io.Reader) (Response, error) {
	line, err := bufio.NewReader(io.LimitReader(conn, maxAnswer)).ReadBytes('\n')
	if err != nil {
		return Response{}, fmt.Errorf("read the sensor's answer: %w", err)
	}
	return parse(line)
}

// parse reads one answer.
func parse(line []byte) (r Response, err error) {
	if err := json.Unmarshal(bytes.TrimSpace(line), &r); err != nil {
		return Response{}, fmt.Errorf("read the sensor's answer: %w", err)
	}
	if !r.OK {
		return Response{}, &Error{r.Error}
	}
	return r, nil
}

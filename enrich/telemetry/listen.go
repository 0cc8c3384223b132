// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/proc"
	"github.com/sheetbend/sheetbend/enrich/socket"
)

func listenTCP(addr string, expose bool) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("agent telemetry: %q is not HOST:PORT, as in 127.0.0.1:4318", addr)
	}
	if host == "localhost" { // what it resolves to is not ours to decide
		host = "127.0.0.1"
	}
	ip := net.ParseIP(host)
	switch {
	case host != "" && ip == nil:
		return nil, fmt.Errorf("agent telemetry: %q is not an IP address to listen on: give one, as in 127.0.0.1:4318",
			host)
	case !expose && (ip == nil || !ip.IsLoopback()):
		return nil, fmt.Errorf("agent telemetry: %s can be reached from other hosts, and OTLP has no login: "+
			"listen on 127.0.0.1, or set intake.expose if that is meant", addr)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("agent telemetry: %s is in use, by an OpenTelemetry collector maybe: "+
			"choose another port for the intake", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for agent telemetry: %w", err)
	}
	return l, nil
}

func listenUnix(path string) (net.Listener, error) {
	l, err := socket.Listen(path)
	if err != nil {
		return nil, fmt.Errorf("listen for agent telemetry: %w", err)
	}
	return l, nil
}

// limited closes connections beyond the limits at once: one that waits to be accepted would
// keep its sender waiting.
type limited struct {
	net.Listener
	intake *Intake
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who := identify(c)
		slot := l.intake.peers.Take(who.key, l.intake.o.now(), func() { _ = c.Close() })
		if slot == nil {
			l.intake.noConnect.Add(1)
			_ = c.Close()
			continue
		}
		return &conn{Conn: c, peers: l.intake.peers, slot: slot, who: who}, nil
	}
}

// conn knows its peer, and frees its place when it is closed.
type conn struct {
	net.Conn
	peers *peers
	slot  *slot

	mu       sync.Mutex
	who      origin
	admitted bool
}

func (c *conn) Close() error {
	c.peers.Leave(c.slot)
	return c.Conn.Close()
}

// from is who sends: the one process that is known to have the connection.
func (c *conn) from(i *Intake) Sender {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.who.look(i); err != nil || len(c.who.holders) != 1 {
		return Sender{}
	}
	return c.who.holders[0]
}

// admit returns nil if all processes that have the connection may send, or if it comes from elsewhere than this host.
// Their answer is asked for once; the sender waits for ours meanwhile, so its end is open.
func (c *conn) admit(ctx context.Context, i *Intake) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i.o.May == nil || c.admitted {
		return nil
	}
	if err := c.who.look(i); err != nil {
		return err
	}
	if n := len(c.who.holders); c.who.local && n == 0 || n > maxHolders {
		return errHidden
	}
	for _, s := range c.who.holders {
		may, err := i.o.May(ctx, s)
		if err != nil {
			return errBusy
		}
		if !may {
			return errInside
		}
	}
	c.admitted = true
	return nil
}

type peerKey struct{}

// An origin is what is known of where a connection comes from.
type origin struct {
	key     string // what limits are counted for: a user of this host, or an address
	local   bool   // from a process that this host must know
	other   end    // of a TCP connection within this host, until its holders are known
	holders []Sender
}

// look finds the processes that have the other end open, when they are first needed.
func (o *origin) look(i *Intake) error {
	if o.other == (end{}) {
		return nil
	}
	found, err := i.search.holders(o.other)
	if err != nil {
		if !errors.Is(err, errBusy) {
			i.o.Log.Warn("the sender of telemetry cannot be found", "err", err)
		}
		return errBusy
	}
	o.holders, o.other = found, end{}
	return nil
}

func identify(c net.Conn) origin {
	user := func(uid uint32) string { return "uid " + strconv.FormatUint(uint64(uid), 10) }
	switch c := c.(type) {
	case *net.UnixConn:
		cred := peerCredentials(c)
		if cred == nil {
			return origin{key: "unknown user"}
		}
		o := origin{key: user(cred.Uid), local: cred.Pid > 0} // 0: in a pid namespace that is not below ours
		if start, err := proc.Start("/proc", uint32(cred.Pid)); err == nil {
			o.holders = []Sender{{PID: uint32(cred.Pid), Start: start, UID: cred.Uid}}
		}
		return o
	case *net.TCPConn:
		o := origin{key: "loopback", local: true} // 127.0.0.2 is nobody else
		remote, ok := c.RemoteAddr().(*net.TCPAddr)
		here, ok2 := c.LocalAddr().(*net.TCPAddr)
		if ok && ok2 && !remote.IP.IsLoopback() && !remote.IP.Equal(here.IP) {
			return origin{key: remote.IP.String()}
		}
		if e, err := otherEnd(c); err == nil {
			o.key, o.other = user(e.uid), e
		}
		return o
	}
	return origin{key: "unknown"}
}

func peerCredentials(c *net.UnixConn) (cred *unix.Ucred) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	_ = raw.Control(func(fd uintptr) {
		if got, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			cred = got
		}
	})
	return cred
}

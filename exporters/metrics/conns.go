// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"container/list"
	"log/slog"
	"net"
	"net/http"
	"sync"
)

// maxConns bounds open connections: there is no login, and whoever reaches the port can keep some.
const maxConns = 64

// conns closes a connection when there is one too many: of the address that has most the one that has done nothing
// for longest. So who holds all of them keeps a probe out neither by waiting nor by coming again.
type conns struct {
	log *slog.Logger

	mu    sync.Mutex
	open  map[net.Conn]*list.Element
	quiet list.List // of *peer, the one that has done nothing for longest first
}

type peer struct {
	conn net.Conn
	host string
}

// state is an http.Server's ConnState. It is called for a new connection before the next one is accepted.
func (c *conns) state(conn net.Conn, s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.open[conn]
	switch {
	case s == http.StateNew:
		host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		c.open[conn] = c.quiet.PushBack(&peer{conn, host})
		if len(c.open) > maxConns {
			c.displace()
		}
	case e == nil: // displaced
	case s == http.StateClosed || s == http.StateHijacked:
		c.forget(e)
	default:
		c.quiet.MoveToBack(e)
	}
}

func (c *conns) displace() {
	of, most := map[string]int{}, 0
	for e := c.quiet.Front(); e != nil; e = e.Next() {
		host := e.Value.(*peer).host
		of[host]++
		most = max(most, of[host])
	}
	for e := c.quiet.Front(); e != nil; e = e.Next() {
		if p := e.Value.(*peer); of[p.host] == most {
			c.forget(e)
			_ = p.conn.Close()
			c.log.Debug("a connection to the metrics makes room for another", "from", p.host, "connections", most)
			return
		}
	}
}

func (c *conns) forget(e *list.Element) { delete(c.open, c.quiet.Remove(e).(*peer).conn) }

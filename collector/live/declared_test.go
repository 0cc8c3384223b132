// SPDX-License-Identifier: Apache-2.0

//go:build !guest

package live

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/recordtest"
)

// declaredRecords are of an agent with an MCP server that edits files, with calls that stay open for a while.
func declaredRecords() (raws [][]byte, config collector.Config) {
	const cgroup, second = uint64(11), uint64(time.Second)
	now := 1000 * second
	began := now
	add := func(raw []byte) { raws = append(raws, raw) }
	header := func(pid uint32, execs uint64) record.Header {
		now += 10_000_000
		return record.Header{Time: now, Cgroup: cgroup, Start: began + uint64(pid), ExecID: execs, Tgid: pid, Tid: pid}
	}
	event := func(pid uint32, execs uint64, flags uint16, body any) {
		h := header(pid, execs)
		h.Flags = flags
		add(recordtest.Record(h, body))
	}
	start := func(pid uint32, exe string) {
		event(pid, 1, 0, record.Exec{Exe: recordtest.Path(exe), Args: recordtest.Args(exe), Argc: 1, Inode: uint64(pid)})
	}
	add(record.AppendClock(nil, now, int64(now)))
	add(record.AppendCgroup(nil, now, cgroup, 1, "/agents/one"))
	h := header(1, 0)
	h.Cgroup = 99
	add(recordtest.Record(h, record.Fork{ChildStart: began + 10, ChildCgroup: cgroup, ChildTgid: 10, ChildVpid: 10}))
	start(10, "/usr/bin/claude")
	event(10, 1, 0, record.Fork{ChildStart: began + 15, ChildCgroup: cgroup, ChildTgid: 15, ChildVpid: 15})
	start(15, "/usr/bin/server")
	for n := range 12 {
		for _, tool := range []string{"Edit", "mcp__files__read"} {
			file := fmt.Sprintf("/repo/%s%d", tool, n)
			m := record.Mark{Op: record.MarkBegin, Call: fmt.Sprint(tool, n), Tool: tool, Session: "cs", More: record.More("").With(record.MorePath, file)}
			now += 10_000_000
			add(record.AppendMark(nil, now, 10, began+10, m))
			for n := range 8 { // longer than the journal keeps all records, and more than it keeps without leaving some out
				now += 100_000_000
				add(record.AppendTick(nil, now))
				event(15, 1, 0, record.Open{Path: recordtest.Path(fmt.Sprint("/srv", strings.Repeat("/directory", 390), n)), Inode: 8})
			}
			event(10, 1, record.OpenCreated, record.Open{Path: recordtest.Path(file), Name: []byte(file), Inode: 7, Flags: unix.O_WRONLY | unix.O_CREAT})
			event(15, 1, 0, record.Open{Path: recordtest.Path("/srv/x"), Name: []byte("/srv/x"), Inode: 8})
			m.Op = record.MarkEnd
			now += 10_000_000
			add(record.AppendMark(nil, now, 10, began+10, m))
		}
	}
	config = collector.Config{BootID: "b00t", Hold: 200 * time.Millisecond, Noise: []string{}, Sandboxes: []collector.Selector{{Cgroup: "/agents/*"}}}
	return raws, config
}

// The marks of calls that work inside of an agent are records like others: who follows a sensor that was killed knows
// which are open.
func TestAfterAKillCallsInsideOfAgentsAreOpenAsBefore(t *testing.T) {
	raws, config := declaredRecords()
	for at := 10; at < len(raws)-1; at += 41 {
		survives(t, raws, config, []kill{{record: at, lag: at % 5}})
	}
}

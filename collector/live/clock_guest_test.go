// SPDX-License-Identifier: Apache-2.0

//go:build guest

package live_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/live"
	"github.com/sheetbend/sheetbend/collector/span"
)

// programs passes the spans of programs on.
type programs chan span.Span

func (p programs) Flush() {}
func (p programs) Span(s *span.Span) {
	if s.Kind == span.Exec {
		p <- *s
	}
}

// TestSpansFollowAClockThatIsSet sets the clock of the machine: only a guest may be treated so.
func TestSpansFollowAClockThatIsSet(t *testing.T) {
	mount, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	path, err := os.MkdirTemp(mount.Dir, "sheetbend-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}()
	base := "/" + filepath.Base(path)
	dir, err := mount.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	sensor, err := bpf.Load(bpf.Options{CgroupRoot: mount.Dir})
	if err != nil {
		t.Fatal(err)
	}
	defer sensor.Close()
	spans := make(programs, 1024)
	c, err := collector.New(collector.Config{BootID: "guest", Sandboxes: []collector.Selector{{Cgroup: base}}, Hold: time.Second}, spans)
	if err != nil {
		t.Fatal(err)
	}
	glob, err := cgroup.ParseGlob(base)
	if err != nil {
		t.Fatal(err)
	}
	feed := live.New(live.Options{Source: sensor, Collector: c, Hierarchy: mount, Globs: cgroup.Globs{glob}})
	if err := feed.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- feed.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	start := func(args ...string) *exec.Cmd {
		cmd := exec.Command("/bin/busybox", args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	told := func() span.Span {
		select {
		case s := <-spans:
			return s
		case <-time.After(time.Minute):
			t.Fatal("no span comes")
			return span.Span{}
		}
	}
	_ = start("true").Wait()
	before := told()
	across := start("sleep", "1")
	const jump = time.Hour
	set := func(by time.Duration) {
		tv := unix.NsecToTimeval(time.Now().Add(by).UnixNano())
		if err := unix.Settimeofday(&tv); err != nil {
			t.Fatal(err)
		}
	}
	set(jump)
	defer set(-jump)
	_ = across.Wait()
	if s := told(); time.Duration(s.End-s.Start) > jump/2 {
		t.Errorf("a program that ran meanwhile lasted %v", time.Duration(s.End-s.Start))
	}
	_ = start("true").Wait()
	if s := told(); time.Duration(s.Start-before.Start) < jump || time.Duration(s.Start-before.Start) > jump+jump/2 {
		t.Errorf("began %v after the one before, and the clock was set by %v", time.Duration(s.Start-before.Start), jump)
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/live"
	"github.com/sheetbend/sheetbend/collector/pipeline"
)

const (
	leftoversReport = "report"
	leftoversWait   = "wait"
	leftoversKill   = "kill"

	// endingWithin is how long processes that are just ending may outlive the command unreported, and signals
	// that were meant for it may come after its end.
	endingWithin = 100 * time.Millisecond
	// killedWithin bounds how long killed processes take to be gone.
	killedWithin = 5 * time.Second
)

// leftovers are the processes that run on after the command: in the session's cgroup, and those that left it.
type leftovers struct {
	*session
	pipeline *pipeline.Pipeline
}

// outlived deals with processes that run on after the command.
func (o *runOptions) outlived(l leftovers, name string, asked <-chan os.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), endingWithin)
	defer cancel()
	inside := l.mount.WaitEmpty(ctx, l.path) != nil
	if o.leftovers == leftoversReport {
		if inside {
			o.note("still running after %s: %s (they run on; --leftovers wait or kill changes that)", name,
				l.names(nil))
		}
		return // escaped reports the others, which takes no time then
	}
	outside := l.outside(l.running())
	if len(outside) == 0 { // the ring may have been read only after that tick
		outside = l.outside(l.running())
	}
	if !inside && len(outside) == 0 {
		return
	}
	if o.leftovers == leftoversWait {
		o.note("waiting for %s (^C ends the waiting)", l.names(outside))
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- l.wait(ctx, nil) }()
		select {
		case err := <-done:
			if err != nil {
				o.note("%v", err)
			}
		case <-asked:
			o.note("no longer waiting for %s: they run on", l.names(l.outside(l.running())))
		}
		return
	}
	ctx, cancel = context.WithTimeout(context.Background(), killedWithin)
	defer cancel()
	if names, err := l.kill(ctx); err != nil {
		o.note("%v", err)
	} else {
		o.note("killed %s", names)
	}
}

// escaped deals with processes that had left the cgroup before the watching ended, and of which outlived did not know.
// No record is read any more.
func (o *runOptions) escaped(l leftovers) {
	if l.pipeline.Collector == nil || o.leftovers == leftoversWait {
		return
	}
	outside := l.outside(l.pipeline.Collector.Lineage().Running())
	if len(outside) == 0 {
		return
	}
	names := listed(namesOf(pidsOf(outside)))
	if o.leftovers == leftoversReport {
		o.note("still running outside of the sandbox, which they had left: %s (they run on; --leftovers wait or "+
			"kill changes that)", names)
		return
	}
	for _, p := range outside {
		if err := end(p); err != nil {
			o.note("%v", err)
			return
		}
	}
	o.note("killed %s", names)
}

// running lists who runs; the collector's next tick is a tenth of a second away at most, when it is not behind.
func (l leftovers) running() []collector.Running {
	if l.pipeline == nil {
		return nil // only the sensor knows
	}
	ctx, cancel := context.WithTimeout(context.Background(), killedWithin)
	defer cancel()
	return l.pipeline.Running(ctx)
}

// outside keeps those that live and are elsewhere.
func (l leftovers) outside(list []collector.Running) []collector.Running {
	return slices.DeleteFunc(list, func(p collector.Running) bool {
		if !live.Alive(p.Tgid, p.Start) || int(p.Tgid) == os.Getpid() {
			return true
		}
		cg, err := l.mount.Of(int(p.Tgid))
		return err != nil || cg == l.path || strings.HasPrefix(cg, l.path+"/")
	})
}

// wait waits until nobody is left, and does what is given, if it is, to those outside.
func (l leftovers) wait(ctx context.Context, do func(collector.Running) error) error {
	for {
		if err := l.mount.WaitEmpty(ctx, l.path); err != nil {
			return err
		}
		list := l.running()
		known := len(list)
		outside := l.outside(list)
		for _, p := range outside {
			if do == nil {
				break
			}
			if err := do(p); err != nil {
				return err
			}
		}
		// The dead on the list may have children that are not on it yet.
		if known == 0 || len(outside) == 0 && len(l.outside(l.running())) == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// kill ends all, wherever they are, and names them.
func (l leftovers) kill(ctx context.Context) (string, error) {
	pids, _ := l.mount.Procs(l.path)
	names := namesOf(pids)
	if err := l.mount.Kill(ctx, l.path); err != nil {
		return "", err
	}
	// Each look may find more: children whose start had not been read when their parent was killed.
	named := map[uint32]bool{}
	err := l.wait(ctx, func(p collector.Running) error {
		if !named[p.Tgid] {
			named[p.Tgid] = true
			names = append(names, namesOf([]int{int(p.Tgid)})...)
		}
		return end(p)
	})
	return listed(names), err
}

// end kills the process, and none that has its pid by now.
func end(p collector.Running) error {
	fd, err := unix.PidfdOpen(int(p.Tgid), 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kill process %d: %w", p.Tgid, err)
	}
	defer unix.Close(fd)
	// Looked at afterwards: if it has the pid now, the descriptor is of nobody else who lives.
	if !live.Alive(p.Tgid, p.Start) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", p.Tgid, err)
	}
	return nil
}

// names lists the processes in the cgroup and of those outside.
func (l leftovers) names(outside []collector.Running) string {
	pids, _ := l.mount.Procs(l.path)
	return listed(namesOf(append(pids, pidsOf(outside)...)))
}

func pidsOf(list []collector.Running) (pids []int) {
	for _, p := range list {
		pids = append(pids, int(p.Tgid))
	}
	return pids
}

// namesOf leaves out who has ended.
func namesOf(pids []int) (names []string) {
	for _, pid := range pids {
		if comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm"); err == nil {
			names = append(names, fmt.Sprintf("%s (%d)", strings.TrimSpace(string(comm)), pid))
		}
	}
	return names
}

func listed(names []string) string {
	const most = 8
	if len(names) == 0 {
		return "processes that are ending"
	}
	if more := len(names) - most; more > 0 {
		names = append(names[:most:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// release moves what still runs to where sheetbend itself runs, so that the cgroup can be removed. Nothing
// watches any more.
func (o *runOptions) release(s *session) {
	own, err := s.mount.Of(os.Getpid())
	if err != nil {
		own = "/"
	}
	const rounds = 20 // a process may fork while it is moved
	for range rounds {
		pids, err := s.mount.Procs(s.path)
		if err != nil || len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			if err := s.mount.Move(pid, own); err != nil {
				o.note("%v", err)
				return
			}
		}
	}
}

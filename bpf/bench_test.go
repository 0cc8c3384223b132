// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/cgroup"
)

// The benchmark runs itself as the measured process: loopVariable tells it what to do, how often.
const loopVariable = "SHEETBEND_BENCH_LOOP"

func TestMain(m *testing.M) {
	if spec := os.Getenv(loopVariable); spec != "" {
		if err := loop(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if shell := os.Getenv(UnwaitedVariable); shell != "" {
		fmt.Fprintln(os.Stderr, unwaited(shell))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// UnwaitedVariable makes the test binary a shell, at the path that it says, with a child that has ended and that nobody waits for.
const UnwaitedVariable = "SHEETBEND_TEST_UNWAITED"

func unwaited(shell string) error {
	child := exec.Command("true")
	if err := child.Start(); err != nil {
		return err
	}
	// It ends before the shell is there, which would take notice of it.
	if err := unix.Waitid(unix.P_PID, child.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		return err
	}
	return unix.Exec(shell, []string{shell, "-c", `echo "$1"; read line; :`, "x", strconv.Itoa(child.Process.Pid)}, nil)
}

// loop does "operation count argument" and prints the nanoseconds that one took.
func loop(spec string) error {
	fields := strings.Fields(spec)
	count, err := strconv.Atoi(fields[1])
	if err != nil {
		return err
	}
	var do func() error
	switch fields[0] {
	case "getppid":
		do = func() error { unix.Getppid(); return nil }
	case "open":
		do = func() error {
			fd, err := unix.Open(fields[2], unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		}
	case "files": // in turn
		n := 0
		do = func() error {
			fd, err := unix.Open(filepath.Join(fields[2], strconv.Itoa(n%1000)), unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			n++
			return unix.Close(fd)
		}
	case "unlink": // of a new file
		name := filepath.Join(fields[2], "new"+strconv.Itoa(os.Getpid()))
		do = func() error {
			fd, err := unix.Open(name, unix.O_CREAT|unix.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			return errors.Join(unix.Close(fd), unix.Unlink(name))
		}
	case "stream":
		c, err := net.Dial("tcp4", "127.0.0.1:"+fields[2])
		if err != nil {
			return err
		}
		defer c.Close()
		content := make([]byte, 64<<10)
		do = func() error {
			_, err := c.Write(content)
			return err
		}
	case "socket":
		do = func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		}
	case "exec":
		do = func() error { return exec.Command("/bin/true").Run() }
	case "connect":
		port, err := strconv.Atoi(fields[2])
		if err != nil {
			return err
		}
		do = func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			// A reset instead of TIME_WAIT, or the ports would run out.
			if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
				return err
			}
			return unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
		}
	default:
		return fmt.Errorf("no operation %q", fields[0])
	}
	// The best of several rounds: what else runs on the machine only ever adds.
	best := time.Duration(1<<63 - 1)
	for range 5 {
		start := time.Now()
		for range count {
			if err := do(); err != nil {
				return fmt.Errorf("%s: %w", fields[0], err)
			}
		}
		best = min(best, time.Since(start))
	}
	fmt.Println(float64(best.Nanoseconds()) / float64(count))
	return nil
}

// BenchmarkHooks measures what the hooks add to single operations. In turn, many times over, it
// measures with nothing attached, with programs attached that return at once, and with the
// sensor: once for a process outside of every sandbox, once inside. It reports medians of ns per
// operation, and inside also what is added to the programs that return at once.
func BenchmarkHooks(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root to load BPF programs")
	}
	for _, form := range []Form{FormTrampoline, FormTracepoint} {
		b.Run(string(form), func(b *testing.B) { benchmarkHooks(b, form) })
	}
}

func benchmarkHooks(b *testing.B, form Form) {
	mount, err := cgroup.Find()
	if err != nil {
		b.Fatal(err)
	}
	dir, err := os.MkdirTemp(mount.Dir, "sheetbend-bench-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.Remove(dir)
	group, err := os.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer group.Close()
	id, err := mount.ID("/" + filepath.Base(dir))
	if err != nil {
		b.Fatal(err)
	}
	port := sink(b)
	file := filepath.Join(b.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	operations := []struct{ name, spec string }{
		{"getppid", "getppid 200000"},
		{"open", "open 20000 " + file},
		{"connect", fmt.Sprintf("connect 500 %d", port)},
		{"stream", fmt.Sprintf("stream 5000 %d", port)},
		{"socket", "socket 20000"},
		{"exec", "exec 20"},
	}
	measure := func(spec string, inside bool) float64 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), loopVariable+"="+spec)
		c.Stderr = os.Stderr
		if inside {
			c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
		}
		out, err := c.Output()
		if err != nil {
			b.Fatalf("%s: %v", spec, err)
		}
		ns, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		if err != nil {
			b.Fatal(err)
		}
		return ns
	}

	samples := map[string][]float64{}
	var lost uint64
	// compat: outside, with CompatCalls.
	states := []string{"nothing", "noop", "outside", "inside", "compat"}
	round := func() {
		for _, state := range states {
			if state == "nothing" {
				for _, op := range operations {
					samples[op.name+" "+state] = append(samples[op.name+" "+state], measure(op.spec, false))
				}
				continue
			}
			s, err := Load(Options{CgroupRoot: mount.Dir, Form: form, CompatCalls: state == "compat", noop: state == "noop"})
			if err != nil {
				b.Skipf("this kernel cannot attach the form: %v", err)
			}
			stop := drain(s)
			if err := s.Watch(id, WatchTasks); err != nil {
				b.Fatal(err)
			}
			for _, op := range operations {
				samples[op.name+" "+state] = append(samples[op.name+" "+state], measure(op.spec, state == "inside"))
			}
			stop()
			all, err := s.Losses()
			if err != nil {
				b.Fatal(err)
			}
			for _, l := range all {
				lost += l.Count
			}
			s.Close()
		}
	}
	for b.Loop() {
		round()
	}
	b.ReportMetric(float64(lost)/float64(b.N), "lost/round") // what is left out as the ring fills costs less
	for _, op := range operations {
		median := func(state string) float64 {
			v := samples[op.name+" "+state]
			sort.Float64s(v)
			return v[len(v)/2]
		}
		for _, state := range states {
			b.ReportMetric(median(state), op.name+"-"+state+"-ns")
		}
		b.ReportMetric(median("inside")-median("noop"), op.name+"-inside-added-ns")
		b.ReportMetric(median("outside")/median("noop"), op.name+"-outside/noop")
	}
	b.ReportMetric(0, "ns/op") // a round's own time says nothing
}

// drain reads the ring as the live reader does, and throws the records away.
func drain(s *Sensor) (stop func()) {
	done := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		buf := make([]byte, MaxRecord)
		for {
			select {
			case <-done:
				return
			default:
			}
			s.SetDeadline(time.Now().Add(50 * time.Millisecond))
			for {
				if _, err := s.Read(buf); errors.Is(err, os.ErrDeadlineExceeded) {
					break
				} else if err != nil {
					if !errors.Is(err, os.ErrClosed) && !errors.Is(err, ringbuf.ErrFlushed) && !errors.Is(err, io.EOF) {
						fmt.Fprintln(os.Stderr, "read the ring:", err)
					}
					return
				}
			}
		}
	}()
	return func() { close(done); <-finished }
}

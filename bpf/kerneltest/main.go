// SPDX-License-Identifier: Apache-2.0

// Command kerneltest runs Go tests of this module inside QEMU guests that boot
// other kernels than the host's. It needs no root: the tests are root in the guest.
//
//	go run ./bpf/kerneltest
//	go run ./bpf/kerneltest -arch arm64 -kernels 6.12
//	go run ./bpf/kerneltest -kernels 5.10 -run TestOpen -v ./bpf
//
// It exits non-zero when a guest does not boot, a test fails, or a test is
// skipped: a guest has everything a test may ask for. So it does when the whole suite
// ran and the table of results in docs/kernels.md names other tests or programs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	var o options
	var names string
	flag.StringVar(&o.arch, "arch", "amd64", "architecture to emulate: amd64 or arm64")
	flag.StringVar(&names, "kernels", "", "comma-separated series to boot (default: all of the architecture)")
	flag.StringVar(&o.cache, "cache", "", "directory that keeps fetched kernels (default: sheetbend/kernels in the user's cache directory)")
	flag.StringVar(&o.run, "run", "", "regular expression of tests to run, as in go test -run")
	flag.DurationVar(&o.timeout, "timeout", 20*time.Minute, "how long one guest may take")
	// All CPUs of a guest in one thread, in turns: with a thread for each, 6.12 and 7.3 died now and then of a breakpoint
	// that the kernel had itself just patched away for a tracepoint (int3 in syscall_exit_to_user_mode_prepare).
	flag.StringVar(&o.accel, "accel", "tcg,thread=single", "QEMU accelerator: tcg works everywhere, kvm is faster where it works")
	flag.BoolVar(&o.write, "write", false, "write the results to "+tableFile+" instead of comparing them")
	flag.BoolVar(&o.verbose, "v", false, "print the whole console of every guest")
	flag.Parse()
	o.packages = flag.Args()
	o.out = os.Stdout

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := o.kernelsNamed(names)
	if err == nil {
		err = o.test(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kerneltest:", err)
		stop()
		os.Exit(1)
	}
}

// suitePackages have the tests that meet the kernel. Those of cmd/sheetbend want a whole user land, which the guests lack.
func suitePackages() []string {
	return []string{"./bpf", "./bpf/workload", "./collector/cgroup", "./collector/live"}
}

type options struct {
	arch     string
	kernels  []kernel
	cache    string
	packages []string
	run      string
	timeout  time.Duration
	accel    string
	devices  []string // further arguments of QEMU
	write    bool
	verbose  bool
	out      io.Writer
}

func (o *options) kernelsNamed(names string) error {
	all := kernelsOf(o.arch)
	if all == nil {
		return fmt.Errorf("no kernel is for %q", o.arch)
	}
	if names == "" {
		o.kernels = all
		return nil
	}
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(k kernel) bool { return k.series == name })
		if i < 0 {
			return fmt.Errorf("no kernel is named %q: the table has %s", name, strings.Join(seriesNames(o.arch), ", "))
		}
		o.kernels = append(o.kernels, all[i])
	}
	return nil
}

func (o *options) test(ctx context.Context) error {
	whole := len(o.packages) == 0 && o.run == ""
	if o.write && !whole {
		return errors.New("only the results of the whole suite can be written: name no packages and no tests")
	}
	if len(o.packages) == 0 {
		o.packages = suitePackages()
	}
	if o.cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("find the cache directory: %w: set -cache", err)
		}
		o.cache = filepath.Join(base, "sheetbend", "kernels")
	}
	work, err := os.MkdirTemp("", "kerneltest-")
	if err != nil {
		return fmt.Errorf("make a working directory: %w", err)
	}
	defer os.RemoveAll(work)

	suite, err := buildSuite(ctx, work, o.arch, o.packages, o.run)
	if err != nil {
		return err
	}
	machine, ok := archNamed(o.arch)
	if !ok {
		return fmt.Errorf("no machine is known for %s", o.arch)
	}
	if suite.userland, err = fetchUserland(ctx, machine, o.cache); err != nil {
		return err
	}
	file := filepath.Join(suite.module, tableFile)
	committed, err := readTable(file)
	if err != nil {
		return err
	}
	var errs []error
	results := o.testOnAll(ctx, suite, work)
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", ctx.Err())
	}
	for i, k := range o.kernels {
		c, err := results[i].column, results[i].err
		if err != nil {
			fmt.Fprintf(o.out, "FAIL\tkernel %s\t%v\n", k.name(), err)
			errs = append(errs, fmt.Errorf("tests failed on kernel %s", k.name()))
			continue
		}
		switch {
		case o.write:
			committed.replace(c)
			errs = append(errs, committed.write(file))
		case whole:
			errs = append(errs, committed.differences(c))
		}
	}
	return errors.Join(errs...)
}

type outcome struct {
	column *column
	err    error
}

// testOnAll has as many guests at a time as there are CPUs: each is emulated by one thread.
func (o *options) testOnAll(ctx context.Context, s suite, work string) []outcome {
	o.out = &lines{to: o.out}
	results := make([]outcome, len(o.kernels))
	free := make(chan struct{}, runtime.NumCPU())
	var all sync.WaitGroup
	for i, k := range o.kernels {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			if ctx.Err() != nil {
				return
			}
			results[i].column, results[i].err = o.testOn(ctx, k, s, work)
		})
	}
	all.Wait()
	return results
}

// lines lets one write after the other.
type lines struct {
	mu sync.Mutex
	to io.Writer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(b)
}

// testOn boots the kernel and runs the suite on it.
func (o *options) testOn(ctx context.Context, k kernel, s suite, work string) (*column, error) {
	img, err := fetch(ctx, k, o.cache)
	if err != nil {
		return nil, err
	}
	initrd := filepath.Join(work, "initramfs-"+k.name()+".gz")
	if err := writeInitramfs(initrd, s, k, img, o.timeout); err != nil {
		return nil, err
	}
	defer os.Remove(initrd)

	started := time.Now()
	r, err := o.boot(ctx, k, img, initrd)
	if errors.Is(err, errNotBooted) {
		// Emulated guests rarely hang before they reach init; twice in a row is a fault.
		fmt.Fprintf(o.out, "kernel %s did not boot, trying once more\n", k.name())
		r, err = o.boot(ctx, k, img, initrd)
	}
	if err != nil {
		return nil, err
	}
	for _, p := range s.packages {
		status, ran := r.status[p.name]
		verdict := "ok  "
		if !ran || status != 0 || r.skipped[p.name] > 0 {
			verdict = "FAIL"
		}
		fmt.Fprintf(o.out, "%s\tkernel %s\t%s\t%d passed, %d failed, %d skipped\n",
			verdict, img.release, p.name, r.passed[p.name], r.failed[p.name], r.skipped[p.name])
	}
	fmt.Fprintf(o.out, "    \tkernel %s\t%.0f s, %.0f s of them on a CPU\n", img.release, time.Since(started).Seconds(), r.cpu.Seconds())
	return r.column, r.verdict(s)
}

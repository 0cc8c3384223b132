// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// errNotBooted says that the guest's process 1 never spoke.
var errNotBooted = errors.New("the guest did not boot")

// bootTime is how long an emulated guest may take to reach its process 1. Five seconds are usual on an idle machine.
const bootTime = 90 * time.Second

// result is what a guest said, by package name.
type result struct {
	status                  map[string]int
	passed, failed, skipped map[string]int
	faults                  []string
	column                  *column
	finished                bool
	cpu                     time.Duration // of the host, which says more than the clock where the machine is shared
	tail                    []string      // of the console, for errors before any test
}

// verdict is nil when every test of s ran, passed and none was skipped.
func (r *result) verdict(s suite) error {
	var errs []string
	errs = append(errs, r.faults...)
	for _, p := range s.packages {
		status, ran := r.status[p.name]
		switch {
		case !ran:
			errs = append(errs, p.name+" did not finish")
		case status != 0:
			errs = append(errs, fmt.Sprintf("%s exited with %d", p.name, status))
		case r.skipped[p.name] > 0:
			errs = append(errs, fmt.Sprintf("%s skipped %d tests", p.name, r.skipped[p.name]))
		case r.passed[p.name] == 0:
			errs = append(errs, p.name+" ran no test")
		}
	}
	if !r.finished {
		errs = append(errs, "the guest ended early; its last words:\n"+strings.Join(r.tail, "\n"))
	}
	if errs == nil {
		return nil
	}
	return errors.New(strings.Join(errs, "; "))
}

// boot runs one guest to its end.
func (o *options) boot(ctx context.Context, k kernel, img image, initrd string) (*result, error) {
	machine, ok := archNamed(k.arch)
	if !ok {
		return nil, fmt.Errorf("no machine is known for %s", k.arch)
	}
	var secret [8]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, fmt.Errorf("draw a token: %w", err)
	}
	token := hex.EncodeToString(secret[:])

	// Since 7.0 a program on a tracepoint can be preempted, and while it is the others are skipped on its CPU. On an emulated machine, and the
	// more on one that has to wait for its host, that is at every other tick. So time there is by instructions: 2 ns each.
	var clock []string
	if strings.HasPrefix(k.series, "7") && strings.HasPrefix(o.accel, "tcg") {
		clock = []string{"-icount", "shift=1,sleep=off"}
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, machine.qemu, append(slices.Concat(machine.args, clock, o.devices),
		"-accel", o.accel, "-smp", "2", "-m", "2048",
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-kernel", img.vmlinuz, "-initrd", initrd,
		"-append", "console="+machine.console+" rdinit=/init panic=-1 loglevel=4 printk.devkmsg=off mitigations=off kerneltest="+token)...)
	cmd.Stderr = os.Stderr
	console, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start qemu: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start qemu: %w: install %s", err, machine.pkg)
	}
	booted := make(chan struct{})
	go func() {
		select {
		case <-booted:
		case <-ctx.Done():
		case <-time.After(bootTime):
			cancel()
		}
	}()
	r := o.listen(console, token, newColumn(k, img.release), func() { close(booted) })
	waitErr := cmd.Wait()
	r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	select {
	case <-booted:
	default:
		if waitErr == nil {
			waitErr = errors.New("qemu ended by itself")
		}
		return nil, fmt.Errorf("%w: %w; its console ended with:\n%s", errNotBooted, waitErr, strings.Join(r.tail, "\n"))
	}
	if waitErr != nil && r.finished {
		return nil, fmt.Errorf("qemu: %w", waitErr)
	}
	return r, nil
}

// listen reads the console to its end.
func (o *options) listen(console io.Reader, token string, c *column, booted func()) *result {
	r := &result{
		status: map[string]int{}, passed: map[string]int{}, failed: map[string]int{}, skipped: map[string]int{}, column: c,
	}
	var pkg string
	var log []string // of the current package, shown when it fails
	const tailLines = 40
	lines := bufio.NewScanner(console)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		// The guest's tests may print control characters: they must not reach the terminal.
		printable := strings.Map(func(c rune) rune {
			if c < ' ' && c != '\t' || c == 0x7f {
				return '.'
			}
			return c
		}, line)
		r.tail = append(r.tail, printable)
		if len(r.tail) > tailLines {
			r.tail = r.tail[1:]
		}
		if o.verbose {
			fmt.Fprintln(o.out, printable)
		}
		// A kernel message can stand before the token on the same line.
		_, said, isOurs := strings.Cut(line, token+" ")
		if !isOurs {
			m := outcomeLine.FindStringSubmatch(line)
			if (m == nil || m[1] != "PASS") && !strings.HasPrefix(line, "=== ") {
				log = append(log, printable)
			}
			c.verified(line)
			if m != nil {
				switch m[1] {
				case "PASS":
					r.passed[pkg]++
					c.passed(pkg, m[2])
				case "FAIL":
					r.failed[pkg]++
				case "SKIP":
					r.skipped[pkg]++
				}
			}
			continue
		}
		words := strings.Fields(said)
		switch {
		case len(words) >= 1 && words[0] == "booted":
			if booted != nil {
				booted()
				booted = nil
			}
		case len(words) == 2 && words[0] == "begin":
			pkg, log = words[1], nil
		case len(words) == 3 && words[0] == "end":
			status, err := strconv.Atoi(words[2])
			if err != nil {
				status = -1
			}
			r.status[words[1]] = status
			if (status != 0 || r.skipped[pkg] > 0) && !o.verbose {
				fmt.Fprintln(o.out, strings.Join(log, "\n"))
			}
			pkg = ""
		case len(words) >= 1 && words[0] == "fault":
			r.faults = append(r.faults, strings.Join(words[1:], " "))
		case len(words) == 1 && words[0] == "done":
			r.finished = true
		}
	}
	if err := lines.Err(); err != nil {
		r.faults = append(r.faults, fmt.Sprintf("read the console: %v", err))
		_, _ = io.Copy(io.Discard, console) // let qemu finish
	}
	return r
}

// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/cgroup"
)

// versions are the sensors that BenchmarkVersions compares: `make bench-versions` builds both.
var versions = map[string]string{"earlier": "SHEETBEND_EARLIER", "now": "SHEETBEND_BIN"}

// BenchmarkVersions measures, in turn and many times over, what single operations and whole commands take with nothing
// attached, with programs that return at once, and with the sensor of an earlier version and of this tree, in a sandbox;
// "outside" is beside one that this tree's sensor watches. It reports medians and the ratios.
func BenchmarkVersions(b *testing.B) {
	for _, variable := range versions {
		if os.Getenv(variable) == "" {
			b.Skip("needs two sensors: make bench-versions")
		}
	}
	mount, err := cgroup.Find()
	if err != nil {
		b.Fatal(err)
	}
	cg := fmt.Sprintf("/sheetbend-bench-%d", os.Getpid())
	if err := mount.Create(cg); err != nil {
		b.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := mount.Remove(ctx, cg); err != nil {
			b.Error(err)
		}
	}()
	group, err := mount.Open(cg)
	if err != nil {
		b.Fatal(err)
	}
	defer group.Close()
	port := sink(b)
	files := b.TempDir()
	for i := range 1000 {
		if err := os.WriteFile(filepath.Join(files, strconv.Itoa(i)), nil, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	module, packed := goModule(b), npmModule(b)
	loops := []struct{ name, spec string }{
		{"open", "files 20000 " + files},
		{"connect", fmt.Sprintf("connect 500 %d", port)},
		{"exec", "exec 20"},
		{"unlink", "unlink 5000 " + files},
	}
	inside := func(c *exec.Cmd) *exec.Cmd {
		c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
		return c
	}
	looped := func(spec string, in bool) float64 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), loopVariable+"="+spec)
		c.Stderr = os.Stderr
		if in {
			inside(c)
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
	timed := func(c *exec.Cmd) float64 {
		var errs strings.Builder
		c.Stderr = &errs
		start := time.Now()
		if err := c.Run(); err != nil {
			b.Fatalf("%v: %v\n%s", c.Args, err, errs.String())
		}
		return float64(time.Since(start))
	}
	samples := map[[2]string][]float64{}
	add := func(op, state string, ns float64) { samples[[2]string{op, state}] = append(samples[[2]string{op, state}], ns) }
	measure := func(state string) {
		for _, l := range loops {
			add(l.name, state, looped(l.spec, true))
		}
		build := inside(exec.Command("go", "build", "-a", "-o", os.DevNull, "."))
		build.Dir = module
		add("go-build", state, timed(build))
		install := inside(exec.Command("npm", "install", "--no-audit", "--no-fund", "--prefix", b.TempDir(), packed))
		add("npm-install", state, timed(install))
		if state == "nothing" || state == "now" {
			add("stream-outside", state, looped(fmt.Sprintf("stream 20000 %d", port), false))
			add("open-outside", state, looped(loops[0].spec, false))
		}
	}
	round := func() {
		measure("nothing")
		s, err := Load(Options{CgroupRoot: mount.Dir, noop: true})
		if err != nil {
			b.Fatal(err)
		}
		measure("noop")
		s.Close()
		for _, state := range []string{"earlier", "now"} {
			stop := startSensor(b, os.Getenv(versions[state]), cg)
			measure(state)
			stop()
			add("run-q-true", state, timed(exec.Command(os.Getenv(versions[state]), "run", "-q", "true")))
		}
	}
	for b.Loop() {
		round()
	}
	median := func(op, state string) float64 {
		v := samples[[2]string{op, state}]
		if len(v) == 0 {
			return 0
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	for key := range samples {
		b.ReportMetric(median(key[0], key[1]), key[0]+"-"+key[1]+"-ns")
		if key[1] == "now" && median(key[0], "earlier") > 0 {
			b.ReportMetric(median(key[0], "now")/median(key[0], "earlier"), key[0]+"-now/earlier")
		}
	}
	b.ReportMetric(median("stream-outside", "nothing")/median("stream-outside", "now"), "stream-outside-nothing/now")
	b.ReportMetric(0, "ns/op") // a round's own time says nothing
}

// sink accepts connections on loopback and reads all that comes; it gives its port.
func sink(b *testing.B) int {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// startSensor has a sensor watch a cgroup, with its spans thrown away, until it is stopped.
func startSensor(b *testing.B, bin, cg string) (stop func()) {
	b.Helper()
	dir := b.TempDir()
	conf := filepath.Join(dir, "sheetbend.yaml")
	text := fmt.Sprintf("sandboxes: [{cgroup: %s}]\nexporters: {file: {path: %s}}\nsocket: %s\n",
		cg, filepath.Join(dir, "spans.jsonl"), filepath.Join(dir, "s"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	sensor := exec.Command(bin, "sensor", "--no-pin", "--config", conf)
	log, err := sensor.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := sensor.Start(); err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewReader(log)
	if line, err := lines.ReadString('\n'); err != nil { // it watches
		b.Fatalf("%s: %q, %v", bin, line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	return func() {
		_ = sensor.Process.Signal(unix.SIGTERM)
		if err := sensor.Wait(); err != nil {
			b.Fatalf("%s: %v", bin, err)
		}
	}
}

// goModule is a program that uses some of the standard library.
func goModule(b *testing.B) string {
	dir := b.TempDir()
	write(b, filepath.Join(dir, "go.mod"), "module bench\n\ngo 1.26\n")
	write(b, filepath.Join(dir, "main.go"), "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(1) }\n")
	return dir
}

// npmModule is a package of 1,000 files.
func npmModule(b *testing.B) string {
	dir := b.TempDir()
	write(b, filepath.Join(dir, "package.json"), `{"name": "bench", "version": "1.0.0"}`)
	for i := range 1000 {
		write(b, filepath.Join(dir, fmt.Sprintf("f%d.js", i)), "module.exports = 1\n")
	}
	pack := exec.Command("npm", "pack", "--pack-destination", b.TempDir(), "--silent")
	pack.Dir = dir
	name, err := pack.Output()
	if err != nil {
		b.Fatalf("npm pack: %v", err)
	}
	return filepath.Join(pack.Args[3], strings.TrimSpace(string(name)))
}

func write(b *testing.B, path, text string) {
	b.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

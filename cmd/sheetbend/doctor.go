// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/confine"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/live"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// The outcomes of a check. Only fail keeps the sensor from working.
const (
	checkOK   = "ok"
	checkWarn = "warn"
	checkFail = "fail"
)

// A check is one line of the report. Advice is "" if there is nothing to do.
type check struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

func newDoctor() *cobra.Command {
	var s settings
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check this host, and say what to do about what is missing",
		Long: `Check the kernel, BTF, cgroup v2, capabilities and the clock, and load and attach every hook to see
whether it works here and in which form. Nothing stays attached. The exit code is 1 if something
that the sensor needs is missing.`,
		Example: `  sudo sheetbend doctor
  sudo sheetbend doctor --config /etc/sheetbend/sheetbend.yaml
  sudo sheetbend doctor --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.load()
			if err != nil {
				return err
			}
			checks := examine(c, &s)
			if err := report(cmd.OutOrStdout(), checks, asJSON); err != nil {
				return fmt.Errorf("print the report: %w", err)
			}
			if slices.ContainsFunc(checks, func(c check) bool { return c.Status == checkFail }) {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
	f := cmd.Flags()
	s.config(f, "configuration `FILE` whose endpoint and hook form are checked")
	s.kernel(f)
	f.BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

func report(w io.Writer, checks []check, asJSON bool) error {
	if asJSON {
		return printJSON(w, checks)
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range checks {
		fmt.Fprintf(tab, "%s\t%s\t%s\n", c.Status, c.Name, printable(c.Found))
		if c.Advice != "" {
			fmt.Fprintf(tab, "\t\t→ %s\n", printable(c.Advice))
		}
	}
	return tab.Flush()
}

func examine(c *config.Config, s *settings) []check {
	rights := checkCapabilities()
	checks := []check{checkKernel(), checkBTF(), checkLockdown("/sys/kernel/security/lockdown"), rights}
	m, err := cgroup.Find()
	switch {
	case err != nil:
		checks = append(checks, check{"cgroup v2", checkFail, "not usable", err.Error()})
	case rights.Status == checkFail:
		checks = append(checks, check{"cgroup v2", checkOK, "mounted at " + m.Dir, ""},
			check{"hooks", checkFail, "not tried: capabilities are missing", ""})
	default:
		checks = append(checks, checkCgroups(m))
		checks = append(checks, checkHooks(c, m)...)
	}
	return append(checks, checkPins(c, s.owns), checkConfinement(), checkClock(),
		checkOTLP(c, s.sends(os.Environ()), os.Getenv))
}

func checkKernel() check {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return check{"kernel", checkWarn, "release unknown: " + err.Error(), ""}
	}
	release := unix.ByteSliceToString(uts.Release[:])
	c := check{"kernel", checkOK, release + " " + runtime.GOARCH, ""}
	if !atLeast(release, 5, 10) {
		c.Status, c.Advice = checkFail, "Linux 5.10 or newer is needed"
	}
	return c
}

// atLeast compares the beginning of a release such as 6.1.0-18-cloud-amd64. One that cannot be read passes.
func atLeast(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n != 2 {
		return true
	}
	return a > major || a == major && b >= minor
}

func checkBTF() check {
	const file = "/sys/kernel/btf/vmlinux"
	if _, err := os.Stat(file); err != nil {
		return check{"BTF", checkFail, file + " is missing",
			"use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as those of the distributions are"}
	}
	return check{"BTF", checkOK, file, ""}
}

// checkLockdown: kernel_lockdown(7). In confidentiality mode BPF programs may not read kernel memory.
func checkLockdown(file string) check {
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return check{"lockdown", checkOK, "not in use, or securityfs is not mounted", ""}
	case err != nil:
		return check{"lockdown", checkWarn, err.Error(), ""}
	case strings.Contains(string(text), "[confidentiality]"):
		return check{"lockdown", checkFail, "confidentiality",
			"boot with lockdown=integrity or none: in this mode no BPF program may read kernel memory"}
	}
	return check{"lockdown", checkOK, strings.TrimSpace(string(text)), ""}
}

func checkCapabilities() check {
	caps, err := confine.Current()
	if err != nil {
		return check{"capabilities", checkWarn, err.Error(), ""}
	}
	if lacks := lacking(caps); lacks != 0 {
		return check{"capabilities", checkFail, "missing " + strings.Join(lacks.Names(), ", "),
			"run as root (sudo sheetbend doctor), or add them to the container or unit"}
	}
	found := strings.Join(loading.Names(), ", ")
	if caps.Has(unix.CAP_SYS_ADMIN) {
		found = "CAP_SYS_ADMIN, which stands for " + found
	}
	return check{"capabilities", checkOK, found, ""}
}

// checkConfinement says what the sensor can give up once it has started. Without these it works, too.
func checkConfinement() check {
	c := check{"confinement", checkOK, "capabilities, no_new_privs", ""}
	var lacks []string
	if err := confine.Seccomp(); err != nil {
		lacks = append(lacks, "seccomp: "+err.Error())
	} else {
		c.Found += ", seccomp"
	}
	if version, err := confine.LandlockVersion(); err != nil {
		lacks = append(lacks, "landlock: "+err.Error())
	} else {
		c.Found += fmt.Sprintf(", landlock (version %d)", version)
	}
	if len(lacks) > 0 {
		c.Status, c.Advice = checkWarn, "the sensor does without "+strings.Join(lacks, "; ")
	}
	return c
}

// checkCgroups makes a cgroup as run does, and removes it.
func checkCgroups(m cgroup.Mount) check {
	c := check{"cgroup v2", checkOK, "mounted at " + m.Dir, ""}
	s, err := newSession(m)
	if err == nil {
		err = s.remove()
	}
	if err != nil {
		c.Status, c.Found = checkWarn, c.Found+", but run and record cannot make a cgroup there (sensor needs none)"
		c.Advice = err.Error()
	}
	return c
}

// checkHooks loads and attaches everything; nothing is watched, so nothing is recorded.
func checkHooks(c *config.Config, m cgroup.Mount) []check {
	o := bpf.Options{
		CgroupRoot: m.Dir, RingBytes: powerOfTwo(int(c.Limits.RingBytes)), Form: bpf.Form(c.OpenHook),
		CompatCalls: c.CompatCalls, NoNames: !c.Names,
	}
	s, err := bpf.Load(o)
	if err != nil {
		return []check{{"hooks", checkFail, "cannot be attached", oneLine(err)}}
	}
	hooks := s.Hooks()
	var checks []check
	if err := s.Close(); err != nil {
		checks = append(checks, check{"hooks", checkWarn, "not cleanly detached: " + err.Error(), ""})
	}
	tracepoints := false
	for _, h := range hooks {
		line := check{"hook " + h.Name, checkOK, h.Form + " " + h.Target, ""}
		if !h.Attached {
			line.Status, line.Advice = checkWarn, h.Note
			if h.Err != "" {
				line.Found += ": " + h.Err
			}
		}
		tracepoints = tracepoints || h.Form == string(bpf.FormTracepoint)
		checks = append(checks, line)
	}
	if tracepoints && o.Form == bpf.FormAuto {
		o.Form = bpf.FormTrampoline
		why := "they work when tried alone"
		if s, err := bpf.Load(o); err != nil {
			// What it would advise is what is done.
			why = strings.Replace(oneLine(err), fmt.Sprintf(" (try the form %q)", bpf.FormTracepoint), "", 1)
		} else if err := s.Close(); err != nil {
			why = err.Error()
		}
		checks = append(checks, check{"trampolines", checkWarn, "not usable: " + why,
			"opens and the like are seen by system call tracepoints instead, " +
				"which cost every system call of the host some 30 ns"})
	}
	return checks
}

func checkClock() check {
	boot, wall, err := live.SystemClock()
	if err != nil {
		return check{"clock", checkFail, err.Error(), ""}
	}
	now := time.Unix(0, wall).UTC()
	up := time.Duration(boot).Round(time.Second)
	c := check{"clock", checkOK, fmt.Sprintf("%s, up %s", now.Format(time.RFC3339), up), ""}
	if now.Year() < 2024 {
		c.Status, c.Advice = checkWarn, "set the wall clock: spans carry its time"
	}
	return c
}

func checkOTLP(c *config.Config, who identity, getenv func(string) string) check {
	endpoints, err := findEndpoints(c, getenv)
	switch {
	case err != nil:
		return check{"OTLP", checkFail, "endpoint not usable", err.Error()}
	case len(endpoints) > 0:
		var names []string
		for _, e := range endpoints {
			if !e.Insecure {
				if _, err := e.tls(who.rights).Config(e.Signal, getenv); err != nil {
					return check{"OTLP", checkFail, "certificates not usable", err.Error()}
				}
			}
			name := fmt.Sprintf("%s over %s (%s)", e, e.Protocol, e.Why)
			switch {
			case !e.gets(otlp.Traces):
				name += ", security events only"
			case e.gets(otlp.Logs):
				name += " with security events"
			}
			names = append(names, name)
		}
		return check{"OTLP", checkOK, "spans go to " + strings.Join(names, ", "), ""}
	}
	return check{"OTLP", checkOK, "no endpoint set; sheetbend run needs none", ""}
}

// loading are the capabilities that loading and attaching the programs needs: CAP_BPF for maps and programs,
// CAP_PERFMON to read kernel memory and for tracepoints, CAP_NET_ADMIN for the programs at the sockets of a cgroup.
// What else a stage needs, depends on the host: docs/security.md.
var loading = confine.Of(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN)

// lacking are those of loading that are not in the set. To bpf(2), CAP_SYS_ADMIN stands for each of them.
func lacking(s confine.Set) confine.Set {
	if s.Has(unix.CAP_SYS_ADMIN) {
		return 0
	}
	return loading &^ s
}

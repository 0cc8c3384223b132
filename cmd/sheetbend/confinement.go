// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/confine"
)

// confineSelf takes from the sensor, which has started, what it does not need for what is configured.
func confineSelf(c *config.Config, w *watch, meters *metered, log *slog.Logger) (err error) {
	if !c.Confine {
		log.Warn("not confined: the sensor keeps all that it was started with", "by", "confine: false")
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("confine the sensor (confine: false does without): %w", err)
		}
	}()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	needs, wants, bare, err := needsOf(c, w, hidesProcesses(string(mounts)), os.Getenv)
	if err != nil {
		return err
	}
	has, err := confine.Current()
	if err != nil {
		return err
	}
	for _, want := range wants {
		if !has.Has(want.capability) {
			log.Warn(confine.Of(want.capability).String() + " is missing: " + want.without)
		}
	}
	r, err := confine.Apply(needs)
	if err != nil {
		return err
	}
	if r.Landlock > 0 {
		for _, name := range bare {
			log.Warn("a file directly below / is not read again when it is replaced: move it to a directory of its own",
				"file", name)
		}
	}
	meters.confined(r)
	attrs := []any{
		"capabilities", r.Capabilities.String(), "no_new_privs", r.NoNewPrivs, "seccomp", r.Seccomp,
		"landlock", r.Landlock,
	}
	if len(r.Lacks) > 0 {
		attrs = append(attrs, "without", strings.Join(r.Lacks, "; "))
	}
	log.Info("confined", attrs...)
	return nil
}

// A want is a capability that the sensor keeps, and what is not there without it.
type want struct {
	capability int
	without    string
}

// needsOf is what this configuration needs on this host. hidden: /proc shows processes only to who may trace them.
// bare are files that are not followed when they are replaced.
func needsOf(
	c *config.Config, w *watch, hidden bool, getenv func(string) string,
) (n confine.Needs, wants []want, bare []string, err error) {
	keep := func(capability int, without string) {
		n.Capabilities |= confine.Of(capability)
		wants = append(wants, want{capability, without})
	}
	// Before Linux 5.19 a kernel that keeps bpf(2) from other users asks for it at each look into a map. Whether this
	// one does, it knows itself.
	err = confine.With(0, func() error {
		_, err := w.sensor.Losses()
		return err
	})
	switch {
	case errors.Is(err, unix.EPERM):
		keep(unix.CAP_BPF, "this kernel asks for it at each look into a map")
	case err != nil:
		return n, nil, nil, err
	}
	// Landlock lets nobody look into a process outside, whatever its capabilities are.
	if hidden {
		keep(unix.CAP_SYS_PTRACE, "/proc does not show the processes of others")
		n.NoLandlock = "/proc is mounted with hidepid"
	}
	for _, s := range c.Sandboxes {
		if len(s.Agents) > 0 {
			// open_by_handle_at(2): from a cgroup's id to its name.
			keep(unix.CAP_DAC_READ_SEARCH, "the cgroup of an agent that ends at once is not known")
			break
		}
	}
	if c.Socket != "" && c.Watches.MaxPerUser > 0 {
		n.Files.Write = append(n.Files.Write, w.mount.Dir)
	}
	files := reread(c, getenv)
	if len(files) > 0 {
		keep(unix.CAP_DAC_READ_SEARCH, "certificates and headers that belong to another user cannot be read")
	}
	for _, s := range unixSockets(c, getenv) {
		if foreign(s) { // the dialer keeps it
			wants = append(wants, want{unix.CAP_DAC_OVERRIDE, s + " belongs to another user, and is not asked"})
		}
	}
	replaced := func(files ...string) []string {
		dirs, alone := directories(files)
		bare = append(bare, alone...)
		return append(dirs, alone...)
	}
	n.Files = confine.Files{
		Read: slices.Concat([]string{
			"/proc", "/sys/devices/system/cpu", w.mount.Dir,
			"/etc", "/usr/share/zoneinfo", // names, certificates, the time zone
			"/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", // what resolv.conf may be a link to
			"/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
		}, replaced(append(files, getenv("SSL_CERT_FILE"))...), filepath.SplitList(getenv("SSL_CERT_DIR"))),
		Write:  append(n.Files.Write, tallyDirs[0]),
		Remove: append([]string{}, tallyDirs[1:]...),
	}
	endpoints, _ := findEndpoints(c, getenv) // portsOf tells the error
	n.Sockets = confine.Sockets{
		IP:      len(endpoints) > len(backendSockets(c, getenv)),
		Netlink: c.Intake.Listen != "",
	}
	if dir, err := pinDir(c); err == nil {
		n.Files.Write = append(n.Files.Write, filepath.Dir(dir)) // what is replaced is removed
	}
	if w.journal != "" {
		n.Files.Write = append(n.Files.Write, filepath.Dir(w.journal))
	}
	if w.runtimes != nil && w.runtimes.pods != "" {
		n.Files.Read = append(n.Files.Read, w.runtimes.pods)
	}
	if dir := c.Spool.Dir(); dir != "" {
		n.Files.Write = append(n.Files.Write, dir)
	}
	if file := c.Exporters.File.Path; file != "" && file != "-" {
		dirs, _ := directories([]string{file}) // it is opened anew after a rotation
		n.Files.Write = append(n.Files.Write, dirs...)
	}
	if dir := c.Recorder.Dir(); dir != "" {
		n.Files.Write = append(n.Files.Write, dir)
	}
	// Of one directly below / the file is left: the right to remove it would be one to remove any.
	own, _ := directories([]string{c.Socket, c.Intake.Unix})
	n.Files.Remove = append(n.Files.Remove, own...)
	n.Files.Ports, err = portsOf(c, getenv)
	return n, wants, bare, err
}

// reread are the files that are read again while the sensor runs.
func reread(c *config.Config, getenv func(string) string) (files []string) {
	add := func(names ...string) {
		for _, name := range names {
			if name != "" {
				files = append(files, name)
			}
		}
	}
	endpoints, _ := findEndpoints(c, getenv) // portsOf tells the error
	for _, e := range endpoints {
		t := e.tls(nil).OrEnvironment(e.Signal, getenv)
		add(e.of.HeadersFile, t.CA, t.Cert, t.Key)
	}
	return files
}

// directories are those that the files are in, and those that links lead to: what is replaced is another file. alone
// are files directly below /, where the directory would be all that there is.
func directories(files []string) (dirs, alone []string) {
	add := func(name string) {
		if dir := filepath.Dir(name); dir != "/" {
			dirs = append(dirs, dir)
		} else {
			alone = append(alone, name)
		}
	}
	for _, name := range files {
		if name == "" {
			continue
		}
		if abs, err := filepath.Abs(name); err == nil {
			name = abs
		}
		add(name)
		if real, err := filepath.EvalSymlinks(name); err == nil && real != name {
			add(real)
		}
	}
	return dirs, alone
}

// foreign says whether a file, or where it will be, belongs to another user.
func foreign(name string) bool {
	for ; ; name = filepath.Dir(name) {
		var st unix.Stat_t
		if unix.Stat(name, &st) == nil {
			return st.Uid != uint32(os.Geteuid())
		}
		if name == filepath.Dir(name) {
			return false
		}
	}
}

// portsOf are the TCP ports of backends, proxies and name servers.
func portsOf(c *config.Config, getenv func(string) string) (ports []uint16, err error) {
	add := func(port string) {
		n, parseErr := strconv.ParseUint(port, 10, 16)
		if parseErr != nil {
			err = errors.Join(err, fmt.Errorf("port %q: %w", port, parseErr))
		}
		ports = append(ports, uint16(n))
	}
	add("53")
	endpoints, err := findEndpoints(c, getenv)
	if err != nil {
		return nil, err
	}
	for _, e := range endpoints {
		if _, port, splitErr := net.SplitHostPort(e.Target); splitErr == nil {
			add(port) // else a unix socket
		}
	}
	var urls []string
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		// net/http reads both cases.
		urls = append(urls, cmp.Or(getenv(name), getenv(strings.ToLower(name))))
	}
	for _, text := range urls {
		if text == "" {
			continue
		}
		if !strings.Contains(text, "://") {
			text = "http://" + text
		}
		u, parseErr := url.Parse(text)
		if parseErr != nil {
			continue // who uses it says so
		}
		standard := map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
		add(cmp.Or(u.Port(), standard, "80"))
	}
	return ports, err
}

// hidesProcesses says whether a mount of procfs at /proc has the option hidepid, by /proc/self/mountinfo.
func hidesProcesses(mountinfo string) bool {
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields, super := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || fields[4] != "/proc" || len(super) < 3 || super[0] != "proc" {
			continue
		}
		for option := range strings.SplitSeq(super[2], ",") {
			if value, ok := strings.CutPrefix(option, "hidepid="); ok && value != "0" && value != "off" {
				return true
			}
		}
	}
	return false
}

// unixSockets are those that the sensor connects to: container runtimes' and backends'.
func unixSockets(c *config.Config, getenv func(string) string) []string {
	sockets := append(config.Expand(c.Containers.CRI, criSockets), config.Expand(c.Containers.Docker, dockerSockets)...)
	slices.Sort(sockets)
	return slices.Compact(append(sockets, backendSockets(c, getenv)...))
}

func backendSockets(c *config.Config, getenv func(string) string) (sockets []string) {
	endpoints, _ := findEndpoints(c, getenv) // portsOf tells the error
	for _, e := range endpoints {
		if name, ok := strings.CutPrefix(e.Target, "unix:"); ok {
			if abs, err := filepath.Abs(strings.TrimPrefix(name, "//")); err == nil {
				sockets = append(sockets, abs)
			}
		}
	}
	return sockets
}

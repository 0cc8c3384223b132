// SPDX-License-Identifier: Apache-2.0

package containerstest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
	"github.com/sheetbend/sheetbend/collector/cgroup"
)

// A manager is a systemd of the test's own, in namespaces: all cgroups below one directory are its, as they are a
// host's, and it is asked for each slice and scope of a container. It is process 1 there, and what runs in its
// namespaces ends with it.
type manager struct {
	cmd *exec.Cmd // unshare, which waits for it
	pid string
}

// The directory is a root of cgroups from unshare on. Of /run the host's is used, but for what is systemd's, and for
// the bus, by which runc would ask the host's systemd. It starts nothing.
const beManager = `
echo 0 >"$1/cgroup.procs"
exec unshare --pid --mount --cgroup --uts --ipc --fork --kill-child --mount-proc sh -ec '
	mount --make-rprivate /
	mount --bind /run /run
	mkdir -p /run/systemd
	mount -t tmpfs tmpfs /run/systemd
	[ ! -d /run/dbus ] || mount -t tmpfs tmpfs /run/dbus
	mkdir -p /run/systemd/system
	printf "[Unit]\nDefaultDependencies=no\n" >/run/systemd/system/nothing.target
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	exec env -i PATH="$PATH" container=test /lib/systemd/systemd --system --unit=nothing.target --log-target=console --show-status=no
'`

func newManager(t *testing.T, m cgroup.Mount, cg string) *manager {
	t.Helper()
	s := &manager{cmd: exec.Command("sh", "-ec", beManager, "sh", m.Dir+cg)}
	var log strings.Builder
	s.cmd.Stdout, s.cmd.Stderr = &log, &log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // --kill-child
		_ = s.cmd.Wait()
		_ = os.Remove("/run/systemd") // where no systemd has it
		if t.Failed() {
			t.Logf("log of systemd:\n%s", &log)
		}
	})
	sensortest.Succeeds(t, "systemd", func() (err error) {
		if s.pid, err = childOf(s.cmd.Process.Pid); err != nil {
			return err
		}
		out, err := s.in("systemctl", "is-active", "nothing.target").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	// A cgroup with a process of its own gives its children no controllers.
	if err := os.WriteFile(m.Dir+"/cgroup.procs", fmt.Append(nil, s.cmd.Process.Pid), 0); err != nil {
		t.Fatal(err)
	}
	return s
}

// in is a command in its namespaces.
func (s *manager) in(command ...string) *exec.Cmd {
	enter := []string{"--target", s.pid, "--pid", "--mount", "--cgroup", "--uts", "--ipc", "--", "env", "-u", "DBUS_SYSTEM_BUS_ADDRESS"}
	return exec.Command("nsenter", append(enter, command...)...)
}

// childOf is the pid of the only child.
func childOf(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return "", err
	}
	children := strings.Fields(string(text))
	if len(children) != 1 {
		return "", fmt.Errorf("process %d has the children %q", pid, children)
	}
	return children[0], nil
}

// unlimited is a runc that sets no limits: where a controller is one of cgroup v1's, cgroup v2 has no file for its
// limit.
func unlimited(t *testing.T, dir string) string {
	t.Helper()
	name := dir + "/runc"
	const script = `#!/bin/sh -e
for word; do
	if [ "$before" = --bundle ]; then
		jq -c '.linux.resources |= {devices}' "$word/config.json" >"$word/config.new"
		mv "$word/config.new" "$word/config.json"
	fi
	before=$word
done
exec runc "$@"
`
	if err := os.WriteFile(name, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

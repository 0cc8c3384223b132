// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asPeer makes the test binary one that takes connections ("listen NETWORK ADDRESS"), says where and goes on until its
// input ends, or one that makes them ("dial NETWORK ADDRESS").
const asPeer = "SHEETBEND_TEST_AS_PEER"

func peerTo(what string) int {
	words := strings.SplitN(what, " ", 3)
	if words[0] == "dial" {
		c, err := net.Dial(words[1], words[2])
		if err == nil {
			_, err = io.WriteString(c, "x")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	l, err := net.Listen(words[1], words[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(l.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// peerNamed is a program of this name that does so.
func peerNamed(t *testing.T, dir, name string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, name)
	if os.Link(self, file) == nil {
		return file
	}
	text, err := os.ReadFile(self) // it lies elsewhere
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// listens starts a program that takes connections, and says where.
func listens(t *testing.T, program, network, address string) (pid int, at string) {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), asPeer+"=listen "+network+" "+address)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	at, err = bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, strings.TrimSpace(at)
}

func TestAnAgentThatLeavesItsWorkToADaemonOutsideIsToldOf(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	codex, cline, other := peerNamed(t, dir, "codex"), peerNamed(t, dir, "cline"), peerNamed(t, dir, "other")
	hub, hubAt := listens(t, cline, "tcp", "127.0.0.1:0")
	server, serverAt := listens(t, codex, "unix", dir+"/app server.sock")
	abstract, abstractAt := listens(t, codex, "unix", "@sheetbend-test"+dir)
	unasked, _ := listens(t, codex, "unix", dir+"/unasked")
	stranger, _ := listens(t, other, "unix", dir+"/stranger")
	script := strings.NewReplacer("VAR", asPeer, "DIR", dir).Replace(`
mkfifo DIR/go
env VAR="listen unix DIR/inside" DIR/codex <DIR/go >DIR/ready &
inside=$!
exec 3>DIR/go
until [ -s DIR/ready ]; do :; done
echo "inside $inside"
dial() { env VAR="dial $2 $3" DIR/$1 || exit 9; }
dial codex unix DIR/inside
dial codex unix DIR/stranger
dial other unix DIR/stranger
dial other unix DIR/unasked
dial codex tcp ` + hubAt + `
dial codex unix "` + serverAt + `"
dial cline unix "` + abstractAt + `"
exec 3>&-
wait
`)
	r := sheetbendRun(t, "run", "--color", "never", "--", "sh", "-c", script)
	var inside int
	if _, err := fmt.Sscanf(r.stdout, "inside %d", &inside); err != nil || r.code != 0 {
		t.Fatal(err, describeResult(r))
	}
	// At once and at the end.
	for name, c := range map[string]struct {
		pid, times int
		says       string
	}{
		"by TCP":                          {hub, 2, fmt.Sprintf("talks to cline (%d), which runs outside of the sandbox (its hub", hub)},
		"by a path":                       {server, 2, fmt.Sprintf("talks to codex (%d), which runs outside of the sandbox (its app-server", server)},
		"by a name":                       {abstract, 2, fmt.Sprintf("talks to codex (%d), which", abstract)},
		"inside":                          {inside, 0, ""},
		"that runs no agent's program":    {stranger, 0, ""},
		"that what is no agent talked to": {unasked, 0, ""},
	} {
		said := 0
		for line := range strings.Lines(r.stderr) {
			if strings.Contains(line, fmt.Sprintf("(kill %d)", c.pid)) {
				said++
				if !strings.Contains(line, c.says) {
					t.Errorf("%s: said %q, want %q", name, line, c.says)
				}
			}
		}
		if said != c.times {
			t.Errorf("one %s was told of %d times, want %d", name, said, c.times)
		}
	}
	if strings.Count(r.stderr, "not all is shown: ") != 3 {
		t.Errorf("want three lines at the end")
	}
	if t.Failed() {
		t.Log(describeResult(r))
	}
}

func TestADaemonOfAnUnknownAgentIsToldOfByItsFileAlsoWhereItIsToBeQuiet(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	for name, want := range map[string]bool{"mine": true, "node": false} {
		program := peerNamed(t, dir, name)
		pid, at := listens(t, program, "unix", filepath.Join(dir, "of-"+name))
		cmd := sheetbend(t, "run", "--quiet", "--", program)
		cmd.Env = append(cmd.Env, asPeer+"=dial unix "+at)
		r := finish(t, cmd)
		says := fmt.Sprintf("talks to %s (%d), which runs outside of the sandbox: what", name, pid)
		told := strings.Contains(r.stderr, says)
		if r.code != 0 || told != want || strings.Count(r.stderr, "\n") != strings.Count(r.stderr, says) {
			t.Errorf("%s: told %v, want %v: %s", name, told, want, describeResult(r))
		}
	}
}

func TestTheTablesOfSocketsAreRead(t *testing.T) {
	for line, want := range map[string]openSocket{
		"0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/a b.sock": {inode: "12345", address: "/run/a b.sock"},
		"0000000000000000: 00000002 00000000 00010000 0001 01     7 @abstract":     {inode: "7", address: "@abstract"},
		"0000000000000000: 00000003 00000000 00000000 0001 03 12346 /run/a.sock":   {},
		"0000000000000000: 00000002 00000000 00010000 0001 01 12345":               {},
		"Num       RefCount Protocol Flags    Type St Inode Path":                  {},
		"": {},
	} {
		if got, ok := unixSocket(line); got != want || ok != (want != openSocket{}) {
			t.Errorf("%q: %+v, %v", line, got, ok)
		}
	}
	for line, want := range map[string]openSocket{
		"   0: 0100007F:6377 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0000000000000000 100 0 0 10 0":                                                {inode: "12345", port: 25463},
		"   1: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0000000000000000 100 0 0 10 128": {inode: "77", port: 22},
		"   2: 0100007F:6377 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 12346 1":                                                                              {},
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode":                                                                                {},
	} {
		if got, ok := tcpSocket(line); got != want || ok != (want != openSocket{}) {
			t.Errorf("%q: %+v, %v", line, got, ok)
		}
	}
}

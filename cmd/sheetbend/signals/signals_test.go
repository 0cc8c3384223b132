// SPDX-License-Identifier: Apache-2.0

package signals

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// as makes the test binary a program that says how it began, or one that catches signals.
const as = "SHEETBEND_TEST_SIGNALS"

func TestMain(m *testing.M) {
	switch what := os.Getenv(as); what {
	case "":
		os.Exit(m.Run())
	case "prepare": // becomes what is given, with signals ignored and blocked
		for _, s := range []syscall.Signal{1, 2, 3, 10, 12, 13, 14, 15, 18, 20, 21, 22, 28, 34, 40, 64} {
			_ = set(s, action{handler: ignore})
		}
		runtime.LockOSThread()
		m := mask(1<<0 | 1<<14 | 1<<16 | 1<<26 | 1<<34) // HUP, TERM, CHLD, PROF, 35
		_ = unix.PthreadSigmask(unix.SIG_SETMASK, &m, nil)
		_ = os.Setenv(as, "inherit")
		fmt.Println(syscall.Exec(os.Args[1], os.Args[1:], os.Environ()))
	case "inherit": // starts what is given
		cmd := exec.Command(os.Args[1], os.Args[2:]...)
		cmd.Stdout = os.Stdout
		if err := Inherit(cmd.Start); err != nil {
			fmt.Println(err)
		}
		_ = cmd.Wait()
	case "closed":
		fmt.Println(Closed(0), Closed(1), Closed(2))
	case "catch":
		sent, err := Catch(unix.SIGUSR1, 40)
		fmt.Println("ready", err)
		for range 2 {
			s := <-sent
			fmt.Println(int(s.Signal), s.From == os.Getppid(), s.ByKernel())
		}
	default: // a signal to end by
		var cores unix.Rlimit
		_ = unix.Getrlimit(unix.RLIMIT_CORE, &cores)
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: cores.Max, Max: cores.Max})
		n, _ := strconv.Atoi(what)
		_, _ = Catch(syscall.Signal(n))
		Die(syscall.Signal(n))
		fmt.Println("still here")
		os.Exit(77)
	}
}

func itself(what string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), as+"="+what)
	return cmd
}

// began runs a command with some signals ignored and blocked, through a program of this package or not.
func began(t *testing.T, command ...string) string {
	t.Helper()
	cmd := itself("prepare", command...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Sig") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func TestIgnoredAndBlockedSignalsAreInherited(t *testing.T) {
	if hooked == 0 {
		t.Skip("this test is built with C")
	}
	grep, err := exec.LookPath("grep")
	if err != nil {
		t.Fatal(err)
	}
	want := began(t, grep, "^Sig[BI]", "/proc/self/status")
	if got := began(t, os.Args[0], grep, "^Sig[BI]", "/proc/self/status"); got != want || !strings.Contains(want, "SigIgn:\t8") {
		t.Errorf("through this program\n%swithout\n%s", got, want)
	}
}

func TestClosedStandardFilesAreKnown(t *testing.T) {
	if hooked == 0 {
		t.Skip("this test is built with C")
	}
	for redirect, want := range map[string]string{"": "false false false", "<&-": "true false false", "2>&-": "false false true"} {
		cmd := exec.Command("sh", "-c", `exec "$0" `+redirect, os.Args[0])
		cmd.Env, cmd.Stdin, cmd.Stderr = append(os.Environ(), as+"=closed"), os.Stdin, os.Stderr
		if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%q: %s (%v), want %s", redirect, out, err, want)
		}
	}
}

func TestWhoSentASignalIsKnown(t *testing.T) {
	cmd := itself("catch")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := func() string {
		buf := make([]byte, 64)
		n, _ := out.Read(buf)
		return strings.TrimSpace(string(buf[:n]))
	}
	if got := line(); got != "ready <nil>" {
		t.Fatal(got)
	}
	for _, s := range []syscall.Signal{unix.SIGUSR1, 40} {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		if got, want := line(), fmt.Sprintf("%d true false", s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestAProcessDiesOfTheSignalWithoutACore(t *testing.T) {
	for _, s := range []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT, unix.SIGSEGV, unix.SIGKILL, unix.SIGPIPE, unix.SIGTERM, unix.SIGXFSZ, 33, 64} {
		cmd := itself(strconv.Itoa(int(s)))
		cmd.Dir = t.TempDir()
		_ = cmd.Run()
		status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !status.Signaled() || status.Signal() != s || status.CoreDump() {
			t.Errorf("%s: %v", unix.SignalName(s), cmd.ProcessState)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/signals"
)

var update = flag.Bool("update", false, "write the table of docs/compat.md anew, with all wrappers that are installed")

// The test binary is these, too: one that prints which signals it gets until SIGTERM, and one that becomes what is given
// in a state that few programs begin in.
const (
	asReporter = "report-signals"
	asPrepared = "prepared"
)

func reportSignals() int {
	sent, err := signals.Catch(forwarded...)
	fmt.Fprintln(os.Stderr, "ready", os.Getpid(), err)
	for s := range sent {
		by := "process"
		if s.ByKernel() {
			by = "kernel"
		}
		fmt.Fprintf(os.Stderr, "[%d %s]\n", int(s.Signal), by)
		if s.Signal == unix.SIGTERM {
			break
		}
	}
	return 9
}

func prepared(args []string) error {
	runtime.LockOSThread()
	signal.Ignore(unix.SIGPIPE, unix.SIGTERM, unix.SIGUSR1, unix.SIGTSTP, syscall.Signal(40))
	unix.Umask(0o27)
	_, _, _ = unix.Syscall(unix.SYS_PERSONALITY, 0x0040000, 0, 0) // ADDR_NO_RANDOMIZE
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("321"), 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 3)
	_ = syscall.Setrlimit(unix.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 777, Max: 7777})
	if err := unix.Dup2(2, 7); err != nil {
		return err
	}
	_ = unix.Close(0)
	m := unix.Sigset_t{}
	m.Val[0] = 1<<(unix.SIGUSR2-1) | 1<<(unix.SIGCHLD-1)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &m, nil)
	return syscall.Exec(args[0], args, os.Environ())
}

// A wrapper is a way to run a command: as it is, or by another one.
type wrapper struct {
	name string
	args []string
}

func wrappers(t *testing.T) []wrapper {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []wrapper{
		{"alone", nil},
		{"`timeout`", []string{"timeout", "100"}},
		{"`strace`", []string{"strace", "-f", "-o", "/dev/null"}},
		{"`sudo`", []string{"sudo"}},
		{"`sheetbend run`", []string{self, "run", "--quiet", "--"}},
	}
}

// held are those that each test runs. The others are measured when the table is written.
func (w wrapper) held() bool { return w.args == nil || w.name == "`sheetbend run`" }

func (w wrapper) command(t *testing.T, before []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := sheetbend(t)
	all := slices.Concat(before, w.args, args)
	path, err := exec.LookPath(all[0])
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path, cmd.Args = path, all
	if w.name != "`sheetbend run`" {
		cmd.Env = slices.DeleteFunc(cmd.Env, func(pair string) bool { return strings.HasPrefix(pair, asCommand) })
	}
	return cmd
}

// onTerminal runs it as a terminal's session leader.
func (w wrapper) onTerminal(t *testing.T, before []string, args ...string) (*exec.Cmd, *os.File, *listener) {
	t.Helper()
	master, slave := pty(t)
	cmd := w.command(t, before, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	return cmd, master, listen(t, master)
}

// hears waits for a text, or for a while where nothing says that it comes.
func (w wrapper) hears(screen *listener, text string) bool {
	if w.held() {
		screen.hear(text)
		return true
	}
	for end := time.After(4 * time.Second); ; {
		if strings.Contains(screen.seen.String(), text) {
			return true
		}
		select {
		case b, ok := <-screen.data:
			if !ok {
				return false
			}
			screen.seen.Write(b)
		case <-end:
			return false
		}
	}
}

// ended ends what other wrappers may have left of a session, and waits for its first process.
func (w wrapper) ended(cmd *exec.Cmd) {
	if !w.held() {
		processes, _ := filepath.Glob("/proc/[0-9]*")
		for _, p := range processes {
			pid, _ := strconv.Atoi(filepath.Base(p))
			if session, err := unix.Getsid(pid); err == nil && session == cmd.Process.Pid {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
	_ = cmd.Wait()
}

func told(is bool) string {
	if is {
		return "yes"
	}
	return "**no**"
}

func howEnded(cmd *exec.Cmd) string {
	if status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return "dies of " + unix.SignalName(status.Signal())
	}
	return fmt.Sprintf("exit %d", cmd.ProcessState.ExitCode())
}

// observations fill the rows of the table, each some of them: what is seen of a command that is run so.
var observations = []func(t *testing.T, w wrapper, row func(name, seen string)){
	observeSignals, observeStop, observeScript, observeEnd, observeFirst, observePipes, observeHangup, observeInherited,
}

// A sending is a way to send the command a signal: by a key, or to the wrapper's process.
type sending struct {
	name string
	as   string // what the command then says
	send func(keys *os.File, job int)
}

func sendings(t *testing.T) (list []sending) {
	key := func(name, key string, s unix.Signal) {
		list = append(list, sending{name, fmt.Sprintf("[%d kernel]", s), func(keys *os.File, _ int) { press(t, keys, key) }})
	}
	key("^C", "\x03", unix.SIGINT)
	key("^\\", "\x1c", unix.SIGQUIT)
	key("^Z, which it catches", "\x1a", unix.SIGTSTP)
	list = append(list, sending{"another size of the terminal", "[28 kernel]", func(keys *os.File, _ int) {
		_ = control(keys, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 9, Col: 9}) })
	}})
	for _, s := range []unix.Signal{1, 2, 3, 6, 10, 12, 14, 20, 28, 29} {
		name := fmt.Sprintf("`kill -%s`", strings.TrimPrefix(unix.SignalName(s), "SIG"))
		list = append(list, sending{name, fmt.Sprintf("[%d process]", s), func(_ *os.File, job int) { _ = unix.Kill(job, s) }})
	}
	list = append(list, sending{"`sigqueue` of a real-time signal", "[40 process]", func(_ *os.File, job int) {
		info := struct{ signo, errno, code, _, pid, uid, value int32 }{signo: 40, code: -1, value: 7}
		var siginfo [128]byte
		copy(siginfo[:], unsafe.Slice((*byte)(unsafe.Pointer(&info)), unsafe.Sizeof(info)))
		_, _, _ = unix.Syscall(unix.SYS_RT_SIGQUEUEINFO, uintptr(job), 40, uintptr(unsafe.Pointer(&siginfo)))
	}})
	return append(list, sending{"`kill -TERM`", "[15 process]", func(_ *os.File, job int) { _ = unix.Kill(job, unix.SIGTERM) }})
}

func observeSignals(t *testing.T, w wrapper, row func(name, seen string)) {
	all := sendings(t)
	rounds := slices.Collect(slices.Chunk(all, 1)) // what one does to another wrapper must not count for the next
	if w.held() {
		rounds = [][]sending{all}
	}
	for _, round := range rounds {
		seen := sendAll(t, w, round)
		for _, s := range round {
			times := map[int]string{0: "**not at all**", 1: "once"}[strings.Count(seen, s.as)]
			row(s.name+": the command gets it", cmp.Or(times, "**twice**"))
		}
		if at := strings.Index(seen, "back 9\r\n"); strings.Contains(seen, "[15 process]") {
			row("… and then exits with 9: the shell sees that", told(at >= 0))
		}
	}
}

// sendAll runs the program that reports signals in a shell's job, sends it all of these, and returns what was shown.
func sendAll(t *testing.T, w wrapper, round []sending) string {
	self, _ := os.Executable()
	cmd, keys, screen := w.onTerminal(t, []string{"sh", "-c", `set -m; "$@"; echo "back $?"`, "sh"}, self, asReporter)
	screen.hear("<nil>\r\n")
	_, text, _ := strings.Cut(screen.seen.String(), "ready ")
	text, _, _ = strings.Cut(text, " ")
	pid, _ := strconv.Atoi(text)
	// The job's first process is the wrapper, whichever group that has made for its command.
	job := pid
	for job > 0 && parentOf(job) != cmd.Process.Pid {
		job = parentOf(job)
	}
	if pid == 0 || job == 0 {
		t.Fatalf("%s: %q", w.name, screen.seen.String())
	}
	for _, s := range round {
		s.send(keys, job)
		w.hears(screen, s.as)
	}
	w.hears(screen, "back ")
	w.ended(cmd)
	return screen.rest()
}

func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

func observeStop(t *testing.T, w wrapper, row func(name, seen string)) {
	cmd, keys, screen := w.onTerminal(t, []string{"sh", "-c", `set -m; "$@"; echo "back $?"; fg >/dev/null; echo "end $?"; stty -a`, "sh"}, "cat")
	press(t, keys, "hello\n")
	if works := w.hears(screen, "hello\r\nhello"); !works {
		w.ended(cmd)
		return
	}
	press(t, keys, "\x1a")
	w.hears(screen, "back ")
	press(t, keys, "again\n")
	w.hears(screen, "again\r\nagain")
	press(t, keys, "\x04")
	w.hears(screen, "-echoprt") // the end of what stty says
	w.ended(cmd)
	seen := screen.rest()
	found := regexp.MustCompile(`back (\d+)(?s:.*)end (\d+)`).FindStringSubmatch(seen)
	if found == nil {
		if w.held() {
			t.Fatalf("%s: %q", w.name, seen)
		}
		found = []string{"", "nothing", "nothing"}
	}
	row("^Z: the shell sees", found[1])
	row("… `fg` and ^D: the shell sees", found[2])
	row("… the terminal's modes are as before", told(strings.Contains(seen, " icanon") && strings.Contains(seen, " echo ")))
}

func observeScript(t *testing.T, w wrapper, row func(name, seen string)) {
	cmd, keys, screen := w.onTerminal(t, []string{"bash", "-c", `"$@"; echo AFTER`, "bash"}, "sh", "-c", "echo ready; exec sleep 100")
	w.hears(screen, "ready")
	press(t, keys, "\x03")
	if !w.held() {
		w.hears(screen, "AFTER")
	}
	w.ended(cmd)
	seen := screen.rest()
	row("^C ends the script around it, too", told(!strings.Contains(seen, "AFTER")))
}

func observeEnd(t *testing.T, w wrapper, row func(name, seen string)) {
	for _, s := range []string{"TERM", "KILL"} {
		cmd := w.command(t, nil, "sh", "-c", "kill -"+s+" $$")
		_ = cmd.Run()
		row("its command is ended by SIG"+s, howEnded(cmd))
	}
}

func observeFirst(t *testing.T, w wrapper, row func(name, seen string)) {
	cmd := w.command(t, []string{"unshare", "-pf", "--mount-proc"}, "sh", "-c", "kill -TERM $$; exit 5")
	_ = cmd.Run()
	row("… as the first process of a pid namespace", howEnded(cmd))
}

func observePipes(t *testing.T, w wrapper, row func(name, seen string)) {
	cmd := w.command(t, []string{"bash", "-c", `"$@" | cat; a=${PIPESTATUS[0]}; "${@:1:$#-3}" yes | head -n 1; echo $a ${PIPESTATUS[0]}`, "bash"},
		"sh", "-c", "cat; exit 3")
	cmd.Stdin = strings.NewReader("input\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	row("`echo input \\| … cat; exit 3`, then `yes \\| head -n 1`", strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", " "))
}

func observeHangup(t *testing.T, w wrapper, row func(name, seen string)) {
	self, _ := os.Executable()
	master, slave := pty(t)
	cmd := w.command(t, nil, self, asReporter)
	said, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, write
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = slave.Close(), write.Close()
	screen := listen(t, said)
	w.hears(screen, "<nil>")
	_ = master.Close()
	gets := w.hears(screen, "[1 ")
	_ = cmd.Process.Signal(unix.SIGTERM)
	if !w.held() {
		w.hears(screen, "[15 ")
	}
	w.ended(cmd)
	row("the terminal is gone: the command gets SIGHUP", told(gets))
}

func observeInherited(t *testing.T, w wrapper, row func(name, seen string)) {
	self, _ := os.Executable()
	files := []string{"status", "limits", "oom_score_adj", "personality", "stat", "fdinfo/7", "fdinfo/0", "cmdline"}
	args := []string{"cat"}
	for _, f := range files {
		args = append(args, "/proc/self/"+f)
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		t.Fatal(err)
	}
	args[0] = path
	cmd := w.command(t, []string{self, asPrepared}, args...)
	if cmd.Args[2], err = exec.LookPath(cmd.Args[2]); err != nil { // execve looks nowhere
		t.Fatal(err)
	}
	said, _ := cmd.CombinedOutput() // cat fails where there is no descriptor
	line := func(start string) string {
		for l := range strings.Lines(string(said)) {
			if strings.HasPrefix(l, start) {
				return strings.Join(strings.Fields(strings.TrimPrefix(l, start)), " ")
			}
		}
		return ""
	}
	set := func(name string) string {
		bits, _ := strconv.ParseUint(line(name), 16, 64)
		var names []string
		for s := range 64 {
			if bits&(1<<s) == 0 || s+1 == 32 || s+1 == 33 { // the two are the C library's, and whatever started the test may ignore them
				continue
			}
			name := strings.TrimPrefix(unix.SignalName(unix.Signal(s+1)), "SIG")
			if name == "" {
				name = strconv.Itoa(s + 1)
			}
			names = append(names, name)
		}
		if names == nil {
			return "**none**"
		}
		return strings.Join(names, " ")
	}
	row("ignored signals", set("SigIgn:"))
	row("blocked signals", set("SigBlk:"))
	row("limits on open files", strings.TrimSuffix(line("Max open files"), " files"))
	row("umask", line("Umask:"))
	row("`oom_score_adj` 321, personality, nice 3", told(strings.Contains(string(said), "321\n00040000\n") &&
		regexp.MustCompile(`\(cat\) R (\S+ ){15}3 `).Match(said)))
	row("the name that it was called by (`argv[0]`)", told(bytes.Contains(said, []byte(path+"\x00/proc/self/status\x00"))))
	row("an open descriptor 7", told(!strings.Contains(string(said), "fdinfo/7:")))
	row("closed standard input", told(strings.Contains(string(said), "fdinfo/0:")))
}

// tableFile has the table between its header's line and the next empty one.
const tableFile = "../../docs/compat.md"

// TestTheWrapperIsAsTheTableSays runs each observation with the command alone and below sheetbend, with -update below
// the other wrappers, too, and compares with the table of docs/compat.md.
func TestTheWrapperIsAsTheTableSays(t *testing.T) {
	needRoot(t)
	text, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	all := wrappers(t)
	header := "| |"
	for _, w := range all {
		header += " " + w.name + " |"
	}
	before, rest, ok := strings.Cut(string(text), header+"\n")
	table, after, _ := strings.Cut(rest, "\n\n")
	if !ok {
		t.Fatalf("no table with the header %s", header)
	}
	seen := make([]map[string]string, len(all))
	for i := range all {
		seen[i] = map[string]string{}
	}
	for l := range strings.Lines(table + "\n") { // what is not measured now
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(l, "| "), " |\n"), " | ")
		for i := range all {
			if len(cells) == len(all)+1 && !all[i].held() {
				seen[i][cells[0]] = cells[i+1]
			}
		}
	}
	var mu sync.Mutex
	rows := make([][]string, len(observations)) // in the order of the table
	t.Run("observations", func(t *testing.T) {
		for at, observe := range observations {
			for i, w := range all {
				if _, missing := exec.LookPath(append(w.args, "true")[0]); !w.held() && (!*update || missing != nil) {
					continue
				}
				t.Run(fmt.Sprintf("%d %s", at, strings.Trim(w.name, "`")), func(t *testing.T) {
					t.Parallel()
					observe(t, w, func(name, what string) {
						mu.Lock()
						defer mu.Unlock()
						seen[i][name] = what
						if w.args == nil {
							rows[at] = append(rows[at], name)
						}
					})
				})
			}
		}
	})
	want := "|---" + strings.Repeat("|---", len(all)) + "|"
	for _, name := range slices.Concat(rows...) {
		want += "\n| " + name + " |"
		for i := range all {
			what := seen[i][name]
			if what == "" {
				what = "–"
			}
			want += " " + what + " |"
		}
	}
	if *update {
		if err := os.WriteFile(tableFile, []byte(before+header+"\n"+want+"\n\n"+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if table != want {
		for l := range strings.Lines(want) {
			if !strings.Contains(table, strings.TrimSpace(l)) {
				t.Errorf("seen, and not in %s: %s", filepath.Base(tableFile), l)
			}
		}
		t.Error("the table has other rows, or in another order: make compat-table")
	}
}

func TestARunMayBeNestedAndBelowScript(t *testing.T) {
	t.Parallel()
	needRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	inner := fmt.Sprintf(`env %s=1 %s run --quiet -- sh -c "test -t 0 && kill -USR1 \$\$"`, asCommand, self)
	cmd := sheetbend(t, "run", "--quiet", "--", "script", "-qec", inner, "/dev/null")
	in, keys, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer keys.Close()
	cmd.Stdin, cmd.Stdout = in, io.Discard
	_ = cmd.Run()
	if code := shellCode(cmd); code != exitSignal+int(unix.SIGUSR1) {
		t.Errorf("exit code %d", code)
	}
}

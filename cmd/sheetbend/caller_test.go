// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// asCaller makes sheetbend believe that the user of another called sudo.
func asCaller(env []string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(pair string) bool { // which sudo does not pass on either
		name, _, _ := strings.Cut(strings.ToUpper(pair), "=")
		return strings.HasPrefix(name, "SSL_CERT_") || strings.HasSuffix(name, "_PROXY")
	})
	return append(env, "SUDO_UID=61001", "SUDO_GID=61002", "SUDO_USER=another")
}

func TestASocketIsConnectedToWithTheCallersRights(t *testing.T) {
	t.Parallel()
	_, dir := another(t)
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o600); err != nil { // root's, as a container runtime's
		t.Fatal(err)
	}
	cmd := sheetbend(t, "run", "-q", "--otlp-endpoint", "unix://"+path, "--", "true")
	cmd.Env = asCaller(cmd.Env)
	if r := finish(t, cmd); r.code != 0 || !strings.Contains(r.stderr, "not delivered") {
		t.Error(describeResult(r))
	}
	_ = l.SetDeadline(time.Now().Add(100 * time.Millisecond)) // what has connected waits already
	if conn, err := l.Accept(); err == nil {
		_ = conn.Close()
		t.Error("connected as root")
	}
}

func TestACommandOfAnotherUserCannotTypeIntoTheTerminal(t *testing.T) {
	t.Parallel()
	const types = `perl -e 'for (0x5412, 0x541c) { my $key = "\x03x"; print ioctl(STDIN, $_, $key) ? "typed" : "refused $!", "\n" }'`
	for name, c := range map[string]struct {
		args []string
		env  []string
		says string
	}{
		"--user": {[]string{"run", "-q", "--user", "65534", "--", "sh", "-c", types}, nil, "refused Operation not permitted\r\nrefused Operation not permitted"},
		"sudo":   {[]string{"run", "-q", "--", "sh", "-c", types}, asCaller(nil), "refused Operation not permitted\r\nrefused Operation not permitted"},
	} {
		t.Run(name, func(t *testing.T) {
			needRoot(t)
			cmd, _, screen := onTerminalWith(t, c.env, c.args...)
			shown := screen.rest()
			_ = cmd.Wait()
			if !strings.Contains(shown, c.says) {
				t.Errorf("%q", shown)
			}
		})
	}
}

func TestTheFilterRefusesTypingByEveryTableOfCalls(t *testing.T) {
	for goarch, tables := range abis {
		raw, err := bpf.Assemble(noTyping(tables))
		if err != nil {
			t.Fatal(err)
		}
		again, _ := bpf.Disassemble(raw)
		vm, err := bpf.NewVM(again)
		if err != nil {
			t.Fatal(err)
		}
		verdict := func(arch, number, high, low uint32) int {
			data := make([]byte, 64) // struct seccomp_data; the machine that is imitated reads big endian
			binary.BigEndian.PutUint32(data[0:], number)
			binary.BigEndian.PutUint32(data[4:], arch)
			binary.BigEndian.PutUint32(data[24:], low)
			binary.BigEndian.PutUint32(data[28:], high)
			got, err := vm.Run(data)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		const refuse, allow = unix.SECCOMP_RET_ERRNO | int(unix.EPERM), unix.SECCOMP_RET_ALLOW
		for _, table := range tables {
			for _, number := range table.ioctls {
				for _, c := range []struct {
					high, low uint32
					want      int
				}{{0, unix.TIOCSTI, refuse}, {1, unix.TIOCSTI, refuse}, {0xffffffff, unix.TIOCLINUX, refuse}, {0, unix.TCGETS, allow}, {unix.TIOCSTI, unix.TIOCGWINSZ, allow}} {
					if got := verdict(table.arch, number, c.high, c.low); got != c.want {
						t.Errorf("%s: architecture %x, call %d, command %x %x: %x, want %x", goarch, table.arch, number, c.high, c.low, got, c.want)
					}
				}
			}
			if got := verdict(table.arch, 1, 0, unix.TIOCSTI); got != allow {
				t.Errorf("%s: another call is refused: %x", goarch, got)
			}
		}
		if got := verdict(1, 54, 0, 0); got != refuse {
			t.Errorf("%s: a table that is not known: %x", goarch, got)
		}
	}
}

func TestTheKernelTakesTheFilter(t *testing.T) {
	needRoot(t)
	ioctl := func(command uintptr) (errno unix.Errno) {
		_, _, errno = unix.RawSyscall(unix.SYS_IOCTL, ^uintptr(0), command, 0)
		return errno
	}
	var before, after, high, other unix.Errno
	err := onOwnThread(func() error {
		before = ioctl(unix.TIOCSTI)
		if err := refuseTyping(); err != nil {
			return err
		}
		after, high, other = ioctl(unix.TIOCSTI), ioctl(1<<32|unix.TIOCLINUX), ioctl(unix.TIOCGWINSZ)
		return nil
	})
	if err != nil || before != unix.EBADF || after != unix.EPERM || high != unix.EPERM || other != unix.EBADF {
		t.Errorf("%v; before %v, after %v, with high bits %v, another %v", err, before, after, high, other)
	}
	runtime.Gosched()
	if errno := ioctl(unix.TIOCSTI); errno != unix.EBADF {
		t.Errorf("the filter is that of this thread, too: %v", errno)
	}
}

func TestACommandOfANamedUserGetsALoginsEnvironmentAndNoFiles(t *testing.T) {
	t.Parallel()
	needRoot(t)
	file, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := sheetbend(t, "run", "-q", "--user", "65534", "--", "sh", "-c", `[ -e /proc/$$/fd/3 ] && echo has 3; [ -e /proc/$$/fd/4 ] && echo has 4; env`)
	cmd.Env = append(cmd.Env, "ROOT_TOKEN=s3cret", "LD_PRELOAD=", "OTEL_EXPORTER_OTLP_HEADERS=authorization=s3cret", "TERM=xterm", "PATH=/root/bin:/usr/bin:/bin")
	cmd.ExtraFiles = []*os.File{file, file}
	r := finish(t, cmd)
	if r.code != 0 || strings.Contains(r.stdout, "s3cret") || strings.Contains(r.stdout, "has ") || strings.Contains(r.stdout, "LD_PRELOAD") {
		t.Error(describeResult(r))
	}
	for _, want := range []string{"TERM=xterm\n", "PATH=" + loginPath + "\n", "HOME=", "USER=", "LOGNAME=", "SHELL=/", "SHEETBEND_SOCKET="} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q: %s", want, r.stdout)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/collector/proc"
)

// ownFiles starts a thread of this process with files of its own: copies of those that it has now. Of a process /proc/PID/fd has
// those of the first thread only.
func ownFiles(t *testing.T) (end func()) {
	t.Helper()
	had, release := make(chan error), make(chan struct{})
	var thread int
	do := func() {
		runtime.LockOSThread()                             // it ends with this goroutine
		if thread = unix.Gettid(); thread == os.Getpid() { // but the first one never does
			defer runtime.UnlockOSThread()
			had <- unix.EAGAIN
		} else {
			had <- unix.Unshare(unix.CLONE_FILES)
		}
		<-release
	}
	go do()
	err := <-had
	if errors.Is(err, unix.EAGAIN) {
		go do() // elsewhere, while the first thread waits
		err = <-had
	}
	if err != nil {
		t.Error(err)
	}
	return func() {
		close(release)
		for unix.Tgkill(os.Getpid(), thread, 0) == nil {
			runtime.Gosched()
		}
	}
}

// openMany starts n processes with 10,000 descriptors each, of a file that is no socket.
func openMany(t *testing.T, n int) {
	t.Helper()
	const first, many = 2000, 10_000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < first+many {
		raised := unix.Rlimit{Cur: first + many, Max: max(limit.Max, first+many)}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) })
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for fd := first; fd < first+many; fd++ {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		cmd := exec.Command("sleep", "600")
		if err := cmd.Start(); err != nil {
			t.Error(err)
			break
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	if err := unix.CloseRange(first, first+many-1, 0); err != nil {
		t.Fatal(err)
	}
}

func loadHolders(t *testing.T) *bpf.Holders {
	t.Helper()
	needRoot(t)
	h, err := bpf.LoadHolders()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// holdersOf are the tgids of the processes that have sockets open, and their starts.
func holdersOf(t *testing.T, h *bpf.Holders, inodes ...uint32) map[uint32]uint64 {
	t.Helper()
	found := map[uint32]uint64{}
	err := h.Find(inodes, func(inode, tgid uint32, start uint64) {
		if inode != inodes[0] {
			t.Errorf("socket %d, of %v", inode, inodes)
		}
		found[tgid] = start - start%proc.Tick
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// tcpSocket is one end of a TCP connection, without Go's poller.
func tcpSocket(t *testing.T) *os.File {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func inodeOf(t *testing.T, fd int) uint32 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return uint32(st.Ino)
}

// heir is a process of another user that has the file, too.
func heir(t *testing.T, file *os.File) (pid uint32, end func()) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.ExtraFiles = []*os.File{file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(end)
	return uint32(cmd.Process.Pid), end
}

func TestWhoHasASocketOpenIsFound(t *testing.T) {
	h := loadHolders(t)
	socket, other := tcpSocket(t), tcpSocket(t)
	inode, own := inodeOf(t, int(socket.Fd())), uint32(os.Getpid())
	want := func(what string, pids ...uint32) {
		t.Helper()
		all := map[uint32]uint64{}
		for _, pid := range pids {
			start, err := proc.Start("/proc", pid)
			if err != nil {
				t.Fatal(err)
			}
			all[pid] = start
		}
		// One that nobody has is looked for in the same walk.
		if got := holdersOf(t, h, inode, 1<<31); !maps.Equal(got, all) {
			t.Errorf("%s: %v, want %v", what, got, all)
		}
	}
	want("this process has it", own)
	pid, end := heir(t, socket)
	want("another one, too", own, pid)
	openMany(t, 7)
	want("among more than 65,536 descriptors", own, pid)
	end()
	want("the other one has ended", own)
	if got := holdersOf(t, h, inodeOf(t, int(other.Fd()))); len(got) != 1 {
		t.Errorf("of the next search: %v", got)
	}
	leave := ownFiles(t)
	_ = socket.Close()
	want("a thread alone has it", own)
	leave()
	want("nobody has it")
}

// The number of a file on disk can be that of any socket.
func TestTheFileOfAUnixSocketIsNoSocket(t *testing.T) {
	h := loadHolders(t)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd, err := unix.Open(l.Addr().String(), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	inode := inodeOf(t, fd)
	if _, own := holdersOf(t, h, inode)[uint32(os.Getpid())]; own {
		t.Errorf("its file, of inode %d, is taken for a socket", inode)
	}
}

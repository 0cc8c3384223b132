// SPDX-License-Identifier: Apache-2.0

package marker

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/proc"
)

// A process as the kernel knows it.
type process struct {
	pid   int
	start uint64 // ns of CLOCK_BOOTTIME, rounded down to proc.Tick
	uid   uint32 // effective
}

var errGone = errors.New("the process has ended")

// peerOf gives the process that connected. The answer holds for the life of the connection: the process that called
// connect, not one that inherited the socket.
func peerOf(conn *net.UnixConn) (process, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return process{}, err
	}
	var cred *unix.Ucred
	pidfd := -1
	var credErr error
	err = raw.Control(func(fd uintptr) {
		if cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); credErr != nil {
			return
		}
		// Linux 6.5: names the very process, even if it has ended and its pid is in use again.
		if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD); err == nil {
			pidfd = got
		}
	})
	if err = errors.Join(err, credErr); err != nil {
		return process{}, fmt.Errorf("ask the kernel who the peer is: %w", err)
	}
	if cred.Pid <= 0 {
		if pidfd >= 0 {
			_ = unix.Close(pidfd)
		}
		return process{}, errors.New("the peer's process is not in the sensor's pid namespace: " +
			"run the sensor in the host's")
	}
	p := process{pid: int(cred.Pid), uid: cred.Uid}
	if pidfd < 0 {
		// Before 6.5 there is a window between connect and here in which the peer could end and its pid be used again.
		if pidfd, err = unix.PidfdOpen(p.pid, 0); err != nil {
			if errors.Is(err, unix.ESRCH) {
				err = errGone
			}
			return process{}, fmt.Errorf("look at peer %d: %w", p.pid, err)
		}
	}
	defer unix.Close(pidfd)
	p.start, err = startOf(p.pid, pidfd)
	return p, err
}

// startOf reads the start time of the process that pidfd stands for. While that has not ended, nobody else can
// have its pid, so what was read before is its own.
func startOf(pid, pidfd int) (uint64, error) {
	start, err := proc.Start("/proc", uint32(pid))
	if err != nil {
		return 0, fmt.Errorf("read the start time of process %d: %w", pid, err)
	}
	if err := alive(pidfd); err != nil {
		return 0, fmt.Errorf("read the start time of process %d: %w", pid, err)
	}
	return start, nil
}

// alive returns errGone once the process has ended, zombies included.
func alive(pidfd int) error {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n > 0:
			return errGone
		}
		return nil
	}
}

// serves finds the process that a request names, by pidfd or by number, and checks that the peer may name it: its
// own user's, or any for root.
func serves(peer process, number, pidfd int) (process, error) {
	if pidfd < 0 {
		if err := samePidNamespace(peer.pid); err != nil {
			return process{}, err
		}
		var err error
		if pidfd, err = unix.PidfdOpen(number, 0); err != nil {
			if errors.Is(err, unix.ESRCH) {
				err = errGone
			}
			return process{}, fmt.Errorf("pid %d: %w", number, err)
		}
		defer unix.Close(pidfd)
	} else {
		var err error
		if number, err = pidOf(pidfd); err != nil {
			return process{}, err
		}
	}
	p := process{pid: number}
	var err error
	if p.start, err = startOf(number, pidfd); err != nil {
		return process{}, err
	}
	var st unix.Stat_t
	// The owner of /proc/PID is the effective user, or root for a process that may not be dumped.
	if err := unix.Stat("/proc/"+strconv.Itoa(number), &st); err != nil {
		return process{}, fmt.Errorf("pid %d: %w", number, err)
	}
	if err := alive(pidfd); err != nil {
		return process{}, fmt.Errorf("pid %d: %w", number, err)
	}
	p.uid = st.Uid
	if peer.uid != 0 && peer.uid != p.uid {
		return process{}, fmt.Errorf("pid %d belongs to another user", number)
	}
	return p, nil
}

// pidOf is the pid of a pidfd in the sensor's pid namespace.
func pidOf(pidfd int) (int, error) {
	text, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(pidfd))
	if err != nil {
		return 0, fmt.Errorf("look at the pidfd: %w", err)
	}
	return parsePidfd(text)
}

func parsePidfd(fdinfo []byte) (int, error) {
	for line := range bytes.Lines(fdinfo) {
		value, ok := bytes.CutPrefix(line, []byte("Pid:"))
		if !ok {
			continue
		}
		pid, err := strconv.Atoi(string(bytes.TrimSpace(value)))
		switch {
		case err != nil:
			return 0, fmt.Errorf("look at the pidfd: %w", err)
		case pid == -1:
			return 0, fmt.Errorf("pidfd: %w", errGone)
		case pid <= 0:
			return 0, errors.New("pidfd: the process is not in the sensor's pid namespace")
		}
		return pid, nil
	}
	return 0, errors.New("the file descriptor beside the request is no pidfd")
}

// samePidNamespace refuses numbers that mean another process to the peer than to the sensor.
func samePidNamespace(pid int) error {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return fmt.Errorf("look at the pid namespace of peer %d: %w", pid, err)
	}
	for line := range bytes.Lines(text) {
		// One number for each namespace from ours down. /proc/PID/ns would ask for the right to trace the peer.
		if pids, ok := bytes.CutPrefix(line, []byte("NSpid:")); ok {
			if len(bytes.Fields(pids)) != 1 {
				return errors.New("pid is a number of another pid namespace: " +
					"send a pidfd beside the request (SCM_RIGHTS)")
			}
			return nil
		}
	}
	return nil // a kernel without pid namespaces
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/signals"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

// stageName is what this program is called by itself as the process that is going to be a user's command: it asks the
// sensor to be watched, waits, and becomes the command. Nothing is a secret of it, so anybody may call it so.
const stageName = "sheetbend-stage"

// stageFD is its connection to who started it.
const stageFD = 3

// What a stage says begins with one of these.
const (
	stageAnswer = 'a' // the sensor's answer, with the connection beside it
	stageErrno  = 'e' // the errno of the connection to the sensor, or of the exec
	stageGo     = 'g' // what it is told when the command is to run
)

// beStage does not return where this process is one.
func beStage() {
	if len(os.Args) > 2 && os.Args[0] == stageName {
		os.Exit(stage(os.Args[1], os.Args[2:]))
	}
}

// stage asks what it is told, passes the answer on, and executes the command once it is told to. It returns only when
// there is no command.
func stage(program string, args []string) int {
	unix.CloseOnExec(stageFD)
	fail := func(err error) int {
		errno, _ := errors.AsType[syscall.Errno](err)
		_, _ = unix.Write(stageFD, append([]byte{stageErrno}, strconv.Itoa(int(errno))...))
		return exitSheetbend
	}
	told := make([]byte, client.MaxRequest)
	n, err := unix.Read(stageFD, told)
	if err != nil || n == 0 {
		return exitSheetbend // who started it has ended
	}
	path, request, _ := bytes.Cut(told[:n], []byte{0})
	fd, answer, err := askSensor(string(path), request)
	if err != nil {
		return fail(err)
	}
	if err := unix.Sendmsg(stageFD, append([]byte{stageAnswer}, answer...), unix.UnixRights(fd), nil, 0); err != nil {
		return exitSheetbend
	}
	_ = unix.Close(fd)
	if n, err := unix.Read(stageFD, told); err != nil || n != 1 || told[0] != stageGo {
		return exitSheetbend
	}
	for fd := range 3 {
		if signals.Closed(fd) { // Go's library opened it
			unix.CloseOnExec(fd)
		}
	}
	return fail(signals.Inherit(func() error { return syscall.Exec(program, args, os.Environ()) }))
}

// askSensor connects to a sensor, asks, and reads the answer and no more. It is done without Go's network poller, which would
// start threads.
func askSensor(path string, request []byte) (fd int, answer []byte, err error) {
	if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, nil, err
	}
	patience := unix.Timeval{Sec: 5}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience)
	if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		_, err = unix.Write(fd, request)
	}
	var b [1]byte
	for err == nil && b[0] != '\n' && len(answer) < client.MaxRequest {
		var n int
		if n, err = unix.Read(fd, b[:]); err == nil && n == 0 {
			err = unix.ECONNRESET
		}
		answer = append(answer, b[0])
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{})
	return fd, answer, err
}

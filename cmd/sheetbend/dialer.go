// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/confine"
)

// dialWithin bounds one connection to a unix socket.
const dialWithin = 2 * time.Second

// A dialer connects to unix sockets for a confined sensor, which can make none: before Linux 7.1 nothing else keeps a
// process of root from those of any service. A process of its own does it, which knows the paths from its start, and
// no others. nil connects itself.
type dialer struct {
	paths []string
	cmd   *exec.Cmd

	mu   sync.Mutex // one request after the other
	conn *net.UnixConn
	last byte // number of the last request
}

// startDialer returns when the process is confined. close has to follow.
func startDialer(paths []string) (*dialer, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "dialer"), os.NewFile(uintptr(pair[1]), "dialer")
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return nil, err
	}
	d := &dialer{paths: paths, conn: conn.(*net.UnixConn)} //nolint:forcetypeassert // of a unix socket
	d.cmd = exec.Command("/proc/self/exe", append([]string{dialerName, "--"}, paths...)...)
	d.cmd.ExtraFiles, d.cmd.Stderr = []*os.File{theirs}, os.Stderr
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what keys send is for the sensor
	if err := d.cmd.Start(); err != nil {
		_ = conn.Close()
		return nil, err
	}
	_ = theirs.Close()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); n != 1 {
		return nil, errors.Join(errors.New("it has not started"), err, d.close())
	}
	return d, nil
}

// close ends the process.
func (d *dialer) close() error {
	if d == nil {
		return nil
	}
	err := d.conn.Close()
	if waitErr := d.cmd.Wait(); !errors.Is(waitErr, unix.EPERM) { // a confined sensor may not wait for it
		err = errors.Join(err, waitErr)
	}
	return err
}

// dial connects to a path, also written unix://PATH.
func (d *dialer) dial(ctx context.Context, path string) (net.Conn, error) {
	path = strings.TrimPrefix(path, "unix://")
	if d == nil {
		return (&net.Dialer{Timeout: dialWithin}).DialContext(ctx, "unix", path)
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	n := slices.Index(d.paths, path)
	if n < 0 {
		return nil, fmt.Errorf("connect to %s: the configuration at the start did not name it", path)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	if err := d.conn.SetDeadline(time.Now().Add(2 * dialWithin)); err != nil {
		return nil, err
	}
	if _, err := d.conn.Write([]byte{byte(n), d.last}); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	for {
		answer, rights := make([]byte, 2), make([]byte, unix.CmsgSpace(4))
		n, oob, _, _, err := d.conn.ReadMsgUnix(answer, rights)
		if err != nil || n != 2 {
			return nil, fmt.Errorf("connect to %s: the process that does has ended: %w", path, err)
		}
		file := received(rights[:oob])
		switch {
		case answer[0] != d.last: // of a request that was given up
			_ = file.Close()
			continue
		case file == nil:
			return nil, fmt.Errorf("connect to %s: %w", path, syscall.Errno(answer[1]))
		}
		defer file.Close()
		return net.FileConn(file)
	}
}

// received is the file that came with a message, or nil.
func received(rights []byte) *os.File {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil
	}
	unix.CloseOnExec(fds[0])
	_ = unix.SetNonblock(fds[0], true)
	return os.NewFile(uintptr(fds[0]), "unix")
}

// dialerName is the command of the process. It is nobody's to call but the sensor's.
const dialerName = "unix-dialer"

func newDialer() *cobra.Command {
	return &cobra.Command{
		Use: dialerName, Hidden: true, Short: "Connect to these unix sockets for a confined sensor",
		Args: cobra.MaximumNArgs(255),
		RunE: func(_ *cobra.Command, paths []string) error { return serveDials(3, paths) },
	}
}

// serveDials connects until the other end of fd is closed.
func serveDials(fd int, paths []string) error {
	if err := madeByParent(fd, dialerName, "the sensor"); err != nil {
		return err
	}
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE) // it ends with the sensor
	needs := confine.Needs{Sockets: confine.Sockets{Unix: true}}
	dirs, alone := directories(paths)
	needs.Files.Sockets = append(dirs, alone...)
	if slices.ContainsFunc(paths, foreign) {
		needs.Capabilities = confine.Of(unix.CAP_DAC_OVERRIDE) // to connect asks for the right to write
	}
	if _, err := confine.Apply(needs); err != nil {
		return fmt.Errorf("confine the process that connects to unix sockets: %w", err)
	}
	_ = dropCode()
	if _, err := unix.Write(fd, []byte{0}); err != nil {
		return err
	}
	request := make([]byte, 3)
	for {
		n, err := unix.Read(fd, request)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || n == 0:
			return err
		case n != 2 || int(request[0]) >= len(paths):
			return errors.New("malformed request")
		}
		answer, rights := []byte{request[1], 0}, []byte(nil)
		conn, err := connect(paths[request[0]])
		if err == nil {
			rights = unix.UnixRights(conn)
		} else if no, ok := errors.AsType[syscall.Errno](err); ok {
			answer[1] = byte(no)
		}
		err = unix.Sendmsg(fd, answer, rights, nil, 0)
		if rights != nil {
			_ = unix.Close(conn)
		}
		if err != nil {
			return err
		}
	}
}

// connect returns a descriptor, or an error number.
func connect(path string) (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, err
	}
	within := unix.NsecToTimeval(int64(dialWithin))
	if err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &within); err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{})
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

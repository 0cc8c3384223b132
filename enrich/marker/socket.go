// SPDX-License-Identifier: Apache-2.0

package marker

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/enrich/socket"
)

// listen makes the socket for everyone on the host: who may do what is decided by who they are.
func listen(path string) (*socket.Listener, error) {
	l, err := socket.Listen(path)
	if err != nil {
		return nil, err
	}
	if err := passCredentials(l); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// passCredentials has the kernel add the writer's credentials to all that is read; accepted connections inherit that.
func passCredentials(l *socket.Listener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	err = raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	})
	return errors.Join(err, setErr)
}

// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

func containerRoles() map[string]func(*work, []string) error {
	return map[string]func(*work, []string) error{"role-container": container}
}

// container is the first process of a container, whose root has a file /etc/same and a directory /srv. It tells of
// itself, waits for the end of stdin, and does what it would do in every other container.
func container(w *work, _ []string) error {
	if os.Getpid() != 1 {
		return errors.New("must be the first process of a container: it writes to /")
	}
	if err := w.tellSelf(""); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	for _, o := range []struct {
		name  string
		flags int
		fact  Fact
	}{
		{"/etc/same", unix.O_RDONLY, Fact{}},
		{"/etc/same", unix.O_RDWR, Fact{Access: "read_write"}},
		{"/made", unix.O_WRONLY | unix.O_CREAT, Fact{Access: "create"}},
		{"notes", unix.O_WRONLY | unix.O_CREAT, Fact{Path: "/srv/notes", Access: "create"}},
		{"../missing", unix.O_RDONLY, Fact{Path: "/missing", Errno: "ENOENT"}},
	} {
		if err := w.openAndClose(unix.AT_FDCWD, o.name, o.flags, o.fact); err != nil {
			return err
		}
	}
	return w.run(self("role-report"))
}

// SPDX-License-Identifier: Apache-2.0

package workload

import "golang.org/x/sys/unix"

var oldCalls = map[string]uintptr{
	"unlink": unix.SYS_UNLINK, "rmdir": unix.SYS_RMDIR, "mkdir": unix.SYS_MKDIR, "mknod": unix.SYS_MKNOD, "link": unix.SYS_LINK,
	"symlink": unix.SYS_SYMLINK, "chmod": unix.SYS_CHMOD, "chown": unix.SYS_CHOWN, "lchown": unix.SYS_LCHOWN,
	"utime": unix.SYS_UTIME, "utimes": unix.SYS_UTIMES, "futimesat": unix.SYS_FUTIMESAT,
}

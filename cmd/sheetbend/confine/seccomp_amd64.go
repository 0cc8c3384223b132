// SPDX-License-Identifier: Apache-2.0

package confine

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

const sysNewfstatat = unix.SYS_NEWFSTATAT

// openHere are calls that this architecture alone has.
var openHere = calls{
	"epoll_wait": unix.SYS_EPOLL_WAIT, "poll": unix.SYS_POLL,
}

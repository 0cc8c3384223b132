// SPDX-License-Identifier: Apache-2.0

package confine

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

const sysNewfstatat = unix.SYS_FSTATAT

// openHere are calls that this architecture alone has.
var openHere calls

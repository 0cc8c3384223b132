// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// An identity is who the command runs as.
type identity struct {
	credential *syscall.Credential // nil: as sheetbend itself
	name, home string
	shell      string
	path       string // PATH; "": as it is
	login      bool   // named by --user: nothing of the environment is handed down but TERM
}

// loginPath is PATH after a login as login(1) of util-linux and Debian have it for users.
const loginPath = "/usr/local/bin:/usr/bin:/bin"

// caller is who started sheetbend: the user who called sudo, else the user that runs it.
func caller() (identity, error) { return identify("", os.Geteuid(), os.Getenv) }

// identify decides who the command runs as: name if it is given, else who called sudo, else
// who runs sheetbend. Root can become anyone, others only themselves.
func identify(name string, euid int, getenv func(string) string) (identity, error) {
	if name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			if u, err = user.LookupId(name); err != nil {
				return identity{}, fmt.Errorf("--user %s: there is no such user", name)
			}
		}
		if u.Uid == strconv.Itoa(euid) && euid != 0 {
			return identity{}, nil
		}
		if euid != 0 {
			return identity{}, fmt.Errorf("--user %s: only root can run the command as somebody else", name)
		}
		if by := getenv("SUDO_UID"); by != "" && by != "0" && by != u.Uid {
			return identity{}, fmt.Errorf("--user %s: who called sudo is user %s, "+
				"and gets the rights of no other here%s", name, by, asRoot)
		}
		who, err := become(u)
		who.login, who.path = true, loginPath
		if who.shell == "" {
			who.shell = "/bin/sh"
		}
		return who, err
	}
	uid := getenv("SUDO_UID")
	if euid != 0 || uid == "" || uid == "0" {
		return identity{}, nil
	}
	u, err := user.LookupId(uid)
	if err != nil {
		// A user that is not in the files this binary can read (LDAP and a static binary).
		u = &user.User{Uid: uid, Gid: getenv("SUDO_GID"), Username: getenv("SUDO_USER")}
	}
	who, err := become(u)
	if before := pathBeforeSudo(os.Getppid()); !holdsAll(getenv("PATH"), before) {
		who.path = before
	}
	return who, err
}

// pathBeforeSudo is the PATH of who called sudo, which sudo may have replaced (secure_path in sudoers): that of sudo
// itself, if pid is sudo. "": not known.
func pathBeforeSudo(pid int) string {
	const most = 8 << 20 // execve(2) takes at most 6 MiB
	proc := "/proc/" + strconv.Itoa(pid)
	exe, err := os.Readlink(proc + "/exe")
	// Its file may have been replaced since; the kernel says so behind the name. Who owns it is asked below.
	if err != nil || strings.TrimSuffix(filepath.Base(exe), " (deleted)") != "sudo" {
		return ""
	}
	var st unix.Stat_t
	if err := unix.Stat(proc+"/exe", &st); err != nil || st.Uid != 0 {
		return ""
	}
	f, err := os.Open(proc + "/environ")
	if err != nil {
		return ""
	}
	defer f.Close()
	env, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return ""
	}
	for pair := range strings.SplitSeq(string(env), "\x00") {
		if value, ok := strings.CutPrefix(pair, "PATH="); ok {
			return value
		}
	}
	return ""
}

// holdsAll says whether each directory of the second PATH is in the first.
func holdsAll(path, other string) bool {
	have := filepath.SplitList(path)
	for _, dir := range filepath.SplitList(other) {
		if !slices.Contains(have, dir) {
			return false
		}
	}
	return true
}

func become(u *user.User) (identity, error) {
	uid, err := id32(u.Uid)
	if err != nil {
		return identity{}, fmt.Errorf("user %s: %w", u.Username, err)
	}
	gid, err := id32(u.Gid)
	if err != nil {
		return identity{}, fmt.Errorf("user %s: %w", u.Username, err)
	}
	// An unknown list of groups is an empty one: never root's.
	groups := []uint32{}
	list, _ := u.GroupIds()
	for _, g := range list {
		if n, err := id32(g); err == nil {
			groups = append(groups, n)
		}
	}
	return identity{
		credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups},
		name:       u.Username, home: u.HomeDir, shell: shellOf(u.Uid),
	}, nil
}

func id32(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == math.MaxUint32 { // which setuid(2) reads as "unchanged"
		return 0, fmt.Errorf("%q is not a user or group id", text)
	}
	return uint32(n), nil
}

// environment is that of the command: env as it is, what sudo left of it made the user's again, or that of a login:
// what root's shell exports (tokens, LD_PRELOAD) is nobody else's.
func (i identity) environment(env []string) []string {
	if i.credential == nil {
		return env
	}
	own := map[string]string{"HOME": i.home, "USER": i.name, "LOGNAME": i.name, "SHELL": i.shell, "PATH": i.path}
	out := slices.DeleteFunc(slices.Clone(env), func(pair string) bool {
		key, _, _ := strings.Cut(pair, "=")
		if i.login {
			return key != "TERM"
		}
		return own[key] != "" || strings.HasPrefix(key, "SUDO_")
	})
	for _, key := range []string{"HOME", "USER", "LOGNAME", "SHELL", "PATH"} {
		if own[key] != "" {
			out = append(out, key+"="+own[key])
		}
	}
	return out
}

// shellOf is the login shell of a user id by /etc/passwd, which package os/user leaves out; "" if it is not there.
func shellOf(uid string) string {
	f, err := os.Open("/etc/passwd")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Split(lines.Text(), ":"); len(fields) == 7 && fields[2] == uid {
			return fields[6]
		}
	}
	return ""
}

// SPDX-License-Identifier: Apache-2.0

package confine

import (
	"errors"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Files are the files and ports that the sensor opens after it has started; what is open by then stays open. Names that
// cannot be opened now are left out: one rule that cannot be made would leave none.
type Files struct {
	Read   []string // files, or directories with all below
	Write  []string // directories in which files are made, written, renamed and removed
	Remove []string // directories in which files are removed
	// Sockets are unix sockets that others serve, or directories with them (restricted since Linux 7.1).
	Sockets []string
	// Ports are those of TCP that it connects to. nil: any.
	Ports []uint16
}

// landlockVersion is the newest interface that the rules are written for.
const landlockVersion = 9

// The signals of one thread to another are not scoped: before version 8 each thread has a domain of its own, and Go's
// runtime needs them. The filter refuses signals to others.
func (f Files) restrict() (version int, err error) {
	switch version, err = LandlockVersion(); {
	case err != nil:
		return 0, err
	case version == 1:
		return 0, errors.New("version 1 (before Linux 5.19) cannot let files move between directories of the spool")
	}
	c := landlock.Config{
		HandledAccessFS: landlock.V9.HandledAccessFS,
		Scoped:          ll.ScopeAbstractUnixSocket,
	}
	read, alone := openable(f.Read)
	write, _ := openable(f.Write)
	remove, _ := openable(f.Remove)
	sockets, socket := openable(f.Sockets)
	rules := []landlock.Rule{
		landlock.PathAccess(ll.AccessFSReadFile|ll.AccessFSReadDir, read...),
		// A right of directories would be refused here, and with it all rules.
		landlock.PathAccess(ll.AccessFSReadFile, alone...),
		landlock.PathAccess(ll.AccessFSRemoveFile, remove...),
		landlock.PathAccess(ll.AccessFSReadFile|ll.AccessFSReadDir|ll.AccessFSWriteFile|ll.AccessFSTruncate|
			ll.AccessFSMakeReg|ll.AccessFSMakeDir|ll.AccessFSMakeSock|ll.AccessFSRemoveFile|ll.AccessFSRemoveDir,
			write...).WithRefer(),
		landlock.PathAccess(ll.AccessFSResolveUnix, append(sockets, socket...)...),
	}
	if f.Ports != nil {
		c.HandledAccessNet = ll.AccessNetConnectTCP | ll.AccessNetBindTCP
		for _, p := range f.Ports {
			rules = append(rules, landlock.ConnectTCP(p))
		}
	}
	if err := c.BestEffort().Restrict(rules...); err != nil {
		return 0, err
	}
	return min(version, landlockVersion), nil
}

// openable tells directories and files apart.
func openable(names []string) (dirs, files []string) {
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Stat(name, &st)
		switch {
		case err != nil:
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			dirs = append(dirs, name)
		default:
			files = append(files, name)
		}
	}
	return dirs, files
}

// LandlockVersion is the version of the kernel's Landlock interface.
func LandlockVersion() (int, error) {
	version, err := ll.LandlockGetABIVersion()
	switch {
	case errors.Is(err, unix.ENOSYS):
		return 0, errors.New("the kernel has none: Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK")
	case errors.Is(err, unix.EOPNOTSUPP):
		return 0, errors.New("the kernel has it, but not switched on: lsm=landlock,… at boot")
	}
	return version, err
}

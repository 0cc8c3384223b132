// SPDX-License-Identifier: Apache-2.0

// Package workload makes processes do what the sensor has to see, one named
// scenario at a time, and accounts for it: every process prints one JSON Fact a
// line for each thing that it did. Tests compare the account with the spans.
//
// Scenarios run as root in a directory of their own and leave nothing behind.
package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Fact is one thing that a process did. Fields that do not apply are zero.
type Fact struct {
	Kind string `json:"kind"` // "exec", "open", "connect", "socket", "namespace", "access", "change" or "end"
	Pid  int    `json:"pid"`
	Ppid int    `json:"ppid,omitempty"`

	// exec: what the new program sees of itself. access: Exe of the target.
	Exe    string `json:"exe,omitempty"`
	Cwd    string `json:"cwd,omitempty"`
	Argc   int    `json:"argc,omitempty"`
	Arg0   string `json:"arg0,omitempty"`
	UID    int    `json:"uid,omitempty"`
	Forker int    `json:"forker,omitempty"` // who forked it, where that is not the parent
	// Requested: of exec and open the name in the call, where it differs from the path; of connect where the span has
	// to say it.
	Requested string `json:"requested,omitempty"`

	// open
	Path   string `json:"path,omitempty"`
	Access string `json:"access,omitempty"` // read, write, read_write, create, truncate, path_only
	Inode  uint64 `json:"inode,omitempty"`
	Count  int    `json:"count,omitempty"` // how often, 0 for once; also of what follows
	// Tail is the end of a path that is too long or too deep to be told whole; Path is then the name.
	Tail string `json:"tail,omitempty"`
	// AnyRequest: what the call asked for is not known, or nothing that the kernel could tell.
	AnyRequest bool `json:"any_request,omitempty"`
	// Submitted: open, connect: handed to io_uring, so that in the tracepoint form only this is seen, and not the
	// outcome.
	Submitted bool `json:"submitted,omitempty"`

	// connect
	Transport string `json:"transport,omitempty"` // tcp, udp, unix
	Address   string `json:"address,omitempty"`   // for unix the path, or "@" and the abstract name
	Port      int    `json:"port,omitempty"`
	// SourceRoute: the packets go to the address by way of another one.
	SourceRoute bool `json:"source_route,omitempty"`
	// Exchanged: what was behind the descriptor when the call returned, where that is not what the call was for. In the
	// tracepoint form the address is the process's word then, or, if "both" were exchanged, not told. "at most" of
	// namespace and access: of Count calls, whoever is told of one tells what the fact says, or says that it is not
	// known.
	Exchanged string `json:"exchanged,omitempty"`

	// socket
	Family   string `json:"family,omitempty"`
	SockType string `json:"sock_type,omitempty"`
	Protocol string `json:"protocol,omitempty"`

	// change: Path is the new name
	Old      string `json:"old,omitempty"`
	Replaced uint64 `json:"replaced,omitempty"` // inode; told in the trampoline form
	Mode     uint32 `json:"mode,omitempty"`     // of what is made
	After    uint64 `json:"after,omitempty"`    // as in a record
	Flags    uint32 `json:"flags,omitempty"`    // the same: RENAME_*, XATTR_*, MS_*, MNT_*, MOVE_MOUNT_*
	Text     string `json:"text,omitempty"`     // name of an attribute, type of a mount
	// OldRequested: the old name as the call has it, where it is another; told in the tracepoint form.
	OldRequested string `json:"old_requested,omitempty"`
	AnyInode     bool   `json:"any_inode,omitempty"` // not known here

	// namespace, access, change
	Op      string `json:"op,omitempty"`
	Types   string `json:"types,omitempty"` // sorted, with commas between them
	Target  int    `json:"target,omitempty"`
	Outside bool   `json:"outside,omitempty"` // the target is in no sandbox

	Errno string `json:"errno,omitempty"` // as in errno.h, empty for success

	// end: how the process that is Pid ended, told by its parent.
	Code   int `json:"code,omitempty"`
	Signal int `json:"signal,omitempty"`
}

// Names lists the scenarios, sorted.
func Names() []string { return slices.Sorted(maps.Keys(scenarios())) }

func scenarios() map[string]func(*work) error {
	all := map[string]func(*work) error{}
	for _, some := range []map[string]func(*work) error{openScenarios(), mountScenarios(), execScenarios(), connectScenarios(), unixScenarios(), socketScenarios(), namespaceScenarios(), accessScenarios(), changeScenarios(), changeCallScenarios(), cgroupScenarios(), stormScenarios(), drivenScenarios(), evadeScenarios()} {
		maps.Copy(all, some)
	}
	return all
}

// roles are what the processes of a scenario do that it starts from this same program.
func roles() map[string]func(*work, []string) error {
	all := map[string]func(*work, []string) error{}
	for _, some := range []map[string]func(*work, []string) error{execRoles(), mountRoles(), socketRoles(), namespaceRoles(), accessRoles(), changeRoles(), cgroupRoles(), containerRoles(), stormRoles(), evadeRoles()} {
		maps.Copy(all, some)
	}
	return all
}

// Main runs the scenario args[0], which may take further arguments, and returns an exit code.
func Main(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: sheetbend-workload SCENARIO; scenarios:", strings.Join(Names(), " "))
		return 2
	}
	w := &work{args: args[1:]}
	var err error
	if role, ok := roles()[args[0]]; ok {
		err = role(w, args[1:])
	} else if scenario, ok := scenarios()[args[0]]; ok {
		err = w.inDirectory(scenario)
	} else {
		err = fmt.Errorf("no scenario is named %q", args[0])
	}
	if status, ok := errors.AsType[exitStatus](err); ok {
		return int(status)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "sheetbend-workload %s: %v\n", args[0], err)
		return 1
	}
	return 0
}

// exitStatus ends the process with a code that is part of the scenario.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

type work struct {
	dir  string // absolute, without symlinks, made for the scenario
	args []string
}

func (w *work) inDirectory(scenario func(*work) error) (err error) {
	dir, err := os.MkdirTemp("", "workload-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// Scenarios that give up root still have to reach their files.
	if err := os.Chmod(dir, 0o777); err != nil {
		return err
	}
	if w.dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	return scenario(w)
}

func (w *work) path(name string) string { return filepath.Join(w.dir, name) }

// tell prints a fact with one write, which pipes keep whole up to 4096 bytes
// among parallel writers; a longer line comes from scenarios of one process only.
func (w *work) tell(f Fact) error {
	if f.Pid == 0 {
		f.Pid = os.Getpid()
	}
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(line, '\n'))
	return err
}

// tellSelf reports the running program as an exec.
func (w *work) tellSelf(requested string) error {
	f, err := ownExec(requested)
	if err != nil {
		return err
	}
	return w.tell(f)
}

func ownExec(requested string) (Fact, error) {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return Fact{}, err
	}
	cwd, err := os.Getwd()
	if err != nil {
		return Fact{}, err
	}
	return Fact{Kind: "exec", Ppid: os.Getppid(), Exe: exe, Cwd: cwd, Argc: len(os.Args), Arg0: os.Args[0], UID: os.Getuid(), Requested: requested}, nil
}

// errno is the name of a system call's error, empty for nil.
func errno(err error) (string, error) {
	if err == nil {
		return "", nil
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		if name := unix.ErrnoName(e); name != "" {
			return name, nil
		}
	}
	return "", fmt.Errorf("not a system call's error: %w", err)
}

// ignoringEINTR repeats a call that a signal interrupted: the Go runtime's preemption sends them.
func ignoringEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

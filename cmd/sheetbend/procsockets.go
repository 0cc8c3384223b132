// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/enrich/agents"
)

const (
	// maxTable is how many bytes are read of a table of sockets: some 500,000 of them.
	maxTable = 64 << 20
	// maxProgramArgs is how much is read of a process's arguments: the script is among the first.
	maxProgramArgs = 16 << 10
)

// A fileID names a file on this host. The zero value is none.
type fileID struct{ dev, inode uint64 }

func fileOf(name string) (id fileID, owner uint32) {
	var st unix.Stat_t
	if unix.Stat(name, &st) == nil {
		id, owner = fileID{st.Dev, st.Ino}, st.Uid
	}
	return id, owner
}

// A seenProgram is what a process was seen to run.
type seenProgram struct {
	agents.Program
	file fileID
}

// name is what the process calls its program.
func (r seenProgram) name() string {
	first, _, _ := strings.Cut(r.Args, "\x00")
	return path.Base(first)
}

// runningIn tells what a process runs; false if it has ended, is one of the kernel, or may not be looked at.
func runningIn(pid int) (r seenProgram, ok bool) {
	dir := procDir(pid)
	exe, err := os.Readlink(dir + "/exe")
	if err != nil {
		return r, false
	}
	r.Executable = strings.TrimSuffix(exe, " (deleted)")
	r.file, r.Owner = fileOf(dir + "/exe")
	f, err := os.Open(dir + "/cmdline")
	if err != nil {
		return r, false
	}
	defer f.Close()
	args, err := io.ReadAll(io.LimitReader(f, maxProgramArgs))
	r.Args = string(args)
	return r, err == nil
}

func procDir(pid int) string { return "/proc/" + strconv.Itoa(pid) }

// An openSocket is one that takes connections.
type openSocket struct {
	inode   string
	address string // of a unix socket: its path, or @ and an abstract name; "" of TCP
	port    uint16 // of TCP
}

// listening gives the inodes of the sockets that take connections, as the process sees the network, and that are
// wanted. Of a process that has ended: as this one sees it.
func listening(pid int, wanted func(openSocket) bool) map[string]bool {
	dir := procDir(pid) + "/net/"
	if _, err := os.Stat(dir); err != nil {
		dir = "/proc/self/net/"
	}
	inodes := map[string]bool{}
	tables := map[string]func(string) (openSocket, bool){"unix": unixSocket, "tcp": tcpSocket, "tcp6": tcpSocket}
	for name, parse := range tables {
		f, err := os.Open(dir + name)
		if err != nil {
			continue // without IPv6
		}
		for lines := bufio.NewScanner(io.LimitReader(f, maxTable)); lines.Scan(); {
			if s, ok := parse(lines.Text()); ok && wanted(s) {
				inodes[s.inode] = true
			}
		}
		_ = f.Close()
	}
	return inodes
}

// unixSocket reads a line of /proc/net/unix, of a socket that listens.
func unixSocket(line string) (openSocket, bool) {
	const listens = "00010000" // __SO_ACCEPTCON
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[3] != listens {
		return openSocket{}, false
	}
	// What comes behind the inode, and may have spaces in it.
	_, name, _ := strings.Cut(line, " "+fields[6]+" ")
	return openSocket{inode: fields[6], address: name}, true
}

// tcpSocket reads a line of /proc/net/tcp or tcp6, of a socket that listens.
func tcpSocket(line string) (openSocket, bool) {
	const listens = "0A"
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != listens {
		return openSocket{}, false
	}
	_, hex, _ := strings.Cut(fields[1], ":")
	port, err := strconv.ParseUint(hex, 16, 16)
	return openSocket{inode: fields[9], port: uint16(port)}, err == nil
}

// holders gives the processes that are wanted and have one of the sockets open.
func holders(inodes map[string]bool, wanted func(pid int, r seenProgram) bool) (pids []int) {
	if len(inodes) == 0 {
		return nil
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if r, ok := runningIn(pid); ok && wanted(pid, r) && holds(pid, inodes) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func holds(pid int, inodes map[string]bool) bool {
	dir, err := os.Open(procDir(pid) + "/fd")
	if err != nil {
		return false
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			to, _ := os.Readlink(dir.Name() + "/" + name)
			if inode, ok := strings.CutPrefix(to, "socket:["); ok && inodes[strings.TrimSuffix(inode, "]")] {
				return true
			}
		}
		if err != nil {
			return false
		}
	}
}

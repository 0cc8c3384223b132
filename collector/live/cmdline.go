// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/sheetbend/sheetbend/collector/record"
)

const (
	// maxCmdline bounds what is read to count the arguments: more than execve allows by default.
	maxCmdline = 8 << 20
	// userHz is the unit of times in /proc/PID/stat. Every Linux ABI that Go runs on has 100.
	userHz = 100
)

var errOtherProcess = errors.New("the process id belongs to another process by now")

// cmdline reads the argv of the process that has the pid and began at start (ns of
// CLOCK_BOOTTIME): its first bytes, and the count of arguments.
func cmdline(proc string, pid uint32, start uint64) (args []byte, argc uint32, err error) {
	dir := filepath.Join(proc, strconv.FormatUint(uint64(pid), 10))
	f, err := os.Open(dir + "/cmdline")
	if err != nil {
		return nil, 0, fmt.Errorf("read the arguments of process %d: %w", pid, err)
	}
	defer f.Close()
	args, argc, err = scanArgs(f)
	if err != nil {
		return nil, 0, fmt.Errorf("read the arguments of process %d: %w", pid, err)
	}
	// Looked at afterwards: if the process is still there, what was read before was its own.
	ticks, err := startTicks(dir + "/stat")
	if err != nil {
		return nil, 0, fmt.Errorf("read the start time of process %d: %w", pid, err)
	}
	if ticks != start/(1e9/userHz) {
		return nil, 0, fmt.Errorf("read the arguments of process %d: %w", pid, errOtherProcess)
	}
	return args, argc, nil
}

func scanArgs(r io.Reader) (args []byte, argc uint32, err error) {
	r = io.LimitReader(r, maxCmdline)
	chunk := make([]byte, 16<<10)
	last := byte(0)
	for {
		n, err := r.Read(chunk)
		if n > 0 {
			argc += uint32(bytes.Count(chunk[:n], []byte{0}))
			last = chunk[n-1]
			args = append(args, chunk[:min(n, record.MaxCmdline-len(args))]...)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, 0, err
		}
	}
	if last != 0 { // a process that rewrote its arguments need not end them
		argc++
	}
	return args, argc, nil
}

// startTicks is field 22 of /proc/PID/stat, counted after the name, which is in parentheses
// and may hold spaces and parentheses itself.
func startTicks(file string) (uint64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	ticks, err := parseStart(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return ticks, nil
}

func parseStart(stat []byte) (uint64, error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errors.New("no process name in it")
	}
	fields := bytes.Fields(stat[end+1:])
	const startTime = 22 - 3
	if len(fields) <= startTime {
		return 0, fmt.Errorf("only %d fields", len(fields))
	}
	return strconv.ParseUint(string(fields[startTime]), 10, 64)
}

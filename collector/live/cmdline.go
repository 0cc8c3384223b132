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

	"github.com/sheetbend/sheetbend/collector/proc"
	"github.com/sheetbend/sheetbend/collector/record"
)

// maxCmdline bounds what is read to count the arguments: more than execve allows by default.
const maxCmdline = 8 << 20

var errOtherProcess = errors.New("the process id belongs to another process by now")

// cmdline reads the argv of the process that has the pid and began at start (ns of
// CLOCK_BOOTTIME): its first bytes, and the count of arguments.
func cmdline(root string, pid uint32, start uint64) (args []byte, argc uint32, err error) {
	f, err := os.Open(filepath.Join(root, strconv.FormatUint(uint64(pid), 10), "cmdline"))
	if err != nil {
		return nil, 0, fmt.Errorf("read the arguments of process %d: %w", pid, err)
	}
	defer f.Close()
	args, argc, err = scanArgs(f)
	if err != nil {
		return nil, 0, fmt.Errorf("read the arguments of process %d: %w", pid, err)
	}
	// Looked at afterwards: if the process is still there, what was read before was its own.
	now, err := proc.Start(root, pid)
	if err != nil {
		return nil, 0, fmt.Errorf("read the start time of process %d: %w", pid, err)
	}
	if now != start-start%proc.Tick {
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

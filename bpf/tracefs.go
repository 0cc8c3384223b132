// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// tracefs is a mount of our own that is attached nowhere: a host need not have tracefs
// mounted, and nothing is left behind. That needs Linux 5.2 and CAP_SYS_ADMIN; without that, it is the host's mount.
type tracefs struct{ fd int }

// tracefsMounts are where tracefs usually is; in a container it has to be mounted there.
var tracefsMounts = []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"}

func openTracefs() (*tracefs, error) {
	own, err := makeTracefs()
	if !errors.Is(err, unix.EPERM) {
		return own, err
	}
	for _, dir := range tracefsMounts {
		fd, openErr := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if errors.Is(openErr, unix.EACCES) {
			return nil, fmt.Errorf("open tracefs at %s, which is root's: CAP_DAC_READ_SEARCH is missing: %w",
				dir, openErr)
		}
		if openErr != nil {
			continue
		}
		var st unix.Statfs_t
		if unix.Fstatfs(fd, &st) == nil && st.Type == unix.TRACEFS_MAGIC {
			return &tracefs{fd}, nil
		}
		unix.Close(fd)
	}
	return nil, fmt.Errorf("%w: CAP_SYS_ADMIN is missing, and tracefs is not mounted at %s: mount it there "+
		"(mount -t tracefs none %s; in a container, mount the host's)",
		err, tracefsMounts[0], tracefsMounts[0])
}

func makeTracefs() (*tracefs, error) {
	ctx, err := unix.Fsopen("tracefs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open tracefs (does the kernel have CONFIG_FTRACE_SYSCALLS?): %w", err)
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigCreate(ctx); err != nil {
		return nil, fmt.Errorf("create a tracefs mount: %w", err)
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC,
		unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a tracefs mount: %w", err)
	}
	return &tracefs{fd}, nil
}

func (t *tracefs) close() { unix.Close(t.fd) }

// id of an event; os.ErrNotExist where the kernel has none of that name.
func (t *tracefs) id(group, name string) (uint64, error) {
	path := "events/" + group + "/" + name + "/id"
	fd, err := unix.Openat(t.fd, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return 0, fmt.Errorf("no event %s/%s: %w", group, name, os.ErrNotExist)
	}
	if errors.Is(err, unix.EACCES) {
		return 0, fmt.Errorf("open tracefs %s, which is root's: CAP_DAC_READ_SEARCH is missing: %w", path, err)
	}
	if err != nil {
		return 0, fmt.Errorf("open tracefs %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0, fmt.Errorf("read tracefs %s: %w", path, err)
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// attach runs the program at the event, on every CPU, until it is closed or, with a link (5.15), also as long as that
// is pinned.
func (t *tracefs) attach(group, event, name string, program *ebpf.Program) (a attachment, err error) {
	id, err := t.id(group, event)
	if err != nil {
		return a, err
	}
	attr := unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_TRACEPOINT,
		Size:   uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Config: id,
		Sample: 1,
		Wakeup: 1,
	}
	// A program on a tracepoint's perf event runs for every hit of the tracepoint, wherever the event is opened.
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if errors.Is(err, unix.EACCES) {
		return a, fmt.Errorf("open the perf event: where kernel.perf_event_paranoid is above 2, kernels of Debian ask "+
			"for CAP_SYS_ADMIN (sysctl kernel.perf_event_paranoid=2): %w", err)
	}
	if err != nil {
		return a, fmt.Errorf("open the perf event: %w", err)
	}
	opened := os.NewFile(uintptr(fd), "perf event of "+name)
	l, err := link.AttachRawLink(link.RawLinkOptions{Target: fd, Program: program, Attach: ebpf.AttachPerfEvent})
	if err != nil {
		if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, program.FD()); err != nil {
			opened.Close()
			return a, fmt.Errorf("set the program of the perf event: %w", err)
		}
	}
	a = attachment{name: name, close: opened.Close}
	if err == nil {
		a = attachment{name: name, link: l, close: l.Close, event: opened}
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
		return a, errors.Join(fmt.Errorf("enable the perf event: %w", err), a.close(), opened.Close())
	}
	return a, nil
}

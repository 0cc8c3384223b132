// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// Form is how the hooks that come in two forms are attached.
type Form string

const (
	// FormAuto tries trampolines and falls back to tracepoints.
	FormAuto Form = "auto"
	// FormTrampoline: fexit programs. They cost other system calls nothing and see the kernel's own copy of names.
	FormTrampoline Form = "trampoline"
	// FormTracepoint: system call exit tracepoints, for kernels without BPF trampolines. They
	// add some 30 ns to every system call of the host.
	FormTracepoint Form = "tracepoint"
)

// Hook is one place in the kernel that the sensor listens at.
type Hook struct {
	Name     string // the program
	Target   string // what it is attached to
	Form     string // how: "btf tracepoint", "cgroup", "trampoline", "tracepoint", "iterator"
	Attached bool
	Err      string `json:",omitempty"` // why not
	Note     string // what its absence means
}

// commonHooks are attached on every kernel, in this order: membership first, so that no
// cgroup made meanwhile is missed.
var commonHooks = []struct {
	program string
	record  objectRecordType // as of functionHook
	target  string
	cgroup  ebpf.AttachType // of a cgroup program
}{
	{"cgroup_mkdir", objectRecordTypeRECORD_CGROUP_MKDIR, "cgroup_mkdir", 0},
	{"cgroup_rmdir", objectRecordTypeRECORD_CGROUP_RMDIR, "cgroup_rmdir", 0},
	{"cgroup_attach", objectRecordTypeRECORD_CGROUP_ATTACH, "cgroup_attach_task", 0},
	{"process_fork", objectRecordTypeRECORD_FORK, "sched_process_fork", 0},
	{"process_exit", objectRecordTypeRECORD_EXIT, "sched_process_exit", 0},
	{"process_exec", objectRecordTypeRECORD_EXEC, "sched_process_exec", 0},
	{"connect_state", objectRecordTypeRECORD_CONNECT_END, "inet_sock_set_state", 0},
	{"connect4", objectRecordTypeRECORD_CONNECT, "connect4", ebpf.AttachCGroupInet4Connect},
	{"connect6", objectRecordTypeRECORD_CONNECT, "connect6", ebpf.AttachCGroupInet6Connect},
	{"sendmsg4", objectRecordTypeRECORD_CONNECT, "sendmsg4", ebpf.AttachCGroupUDP4Sendmsg},
	{"sendmsg6", objectRecordTypeRECORD_CONNECT, "sendmsg6", ebpf.AttachCGroupUDP6Sendmsg},
	{"connect_release", objectRecordTypeRECORD_CONNECT_END, "sock_release", ebpf.AttachCgroupInetSockRelease},
	{"signal_sent", objectRecordTypeRECORD_ACCESS, "signal_generate", 0},
	{"oom_victim", objectRecordTypeRECORD_OOM, "mark_victim", 0},
	{packetOut, objectRecordTypeRECORD_PACKET, "egress", ebpf.AttachCGroupInetEgress},
	{packetIn, objectRecordTypeRECORD_PACKET, "ingress", ebpf.AttachCGroupInetIngress},
}

// The hooks that every packet of the host passes, see Options.NoNames.
const packetOut, packetIn = "packet_out", "packet_in"

// formGroup is what comes in two forms, of which one is attached.
type formGroup struct {
	name        string
	trampolines []functionHook // all of them, or none
	tracepoints []callHook
	// What goes with the one or the others, for what does not come their way. Where the kernel has no such
	// hook, they do without it.
	besideTrampoline, besideTracepoints []besideHook
	// orTracepoints: where the kernel has not all of the functions, it is tracepoints also where trampolines are asked for.
	orTracepoints bool
}

type functionHook struct {
	program string
	// record is which ones are missing when the kernel skips a run of the program. It does so when a program would
	// interrupt itself on the same CPU, and says how often in bpf_prog_info.recursion_misses (5.12).
	record  objectRecordType
	targets []string // kernel functions, the first that exists
}

type besideHook struct {
	program string
	record  objectRecordType
	target  func(*Options) (string, error)
	note    string // what its absence means
}

// ringTargets are the BTF tracepoints that tell of a request to io_uring once it is taken in; renamed in 6.3.
var ringTargets = []string{"io_uring_submit_req", "io_uring_submit_sqe"}

type callHook struct {
	program  string
	record   objectRecordType
	call     string
	optional bool // not a system call of every supported kernel
}

// name is that of the attachment.
func (h *callHook) name() string { return h.program + "-" + h.call }

// callHooks are hooks of one program on many calls.
func callHooks(program string, record objectRecordType, optional bool, calls ...string) (hooks []callHook) {
	for _, call := range calls {
		hooks = append(hooks, callHook{program, record, call, optional})
	}
	return hooks
}

var formGroups = []formGroup{
	{
		name: "open",
		trampolines: []functionHook{
			{"open_file", objectRecordTypeRECORD_OPEN, []string{"do_filp_open", "do_file_open"}}, // renamed in 7.0
		},
		tracepoints: append(
			callHooks("open_call", objectRecordTypeRECORD_OPEN, false, "openat", "openat2"),
			callHooks("open_call", objectRecordTypeRECORD_OPEN, true,
				"open", "creat", // not on arm64
				"open_by_handle_at")...,
		),
		besideTrampoline: []besideHook{
			{"open_root", objectRecordTypeRECORD_OPEN, rootTarget, "opens by handle are not seen"},
		},
		besideTracepoints: []besideHook{
			{"uring_submit", objectRecordTypeRECORD_OPEN, ringTarget,
				"opens, connects of unix sockets and changes of files by io_uring are not seen"},
			{"compat_call", objectRecordTypeRECORD_OPEN, compatTarget,
				"opens, refused execs, connects of unix and vsock sockets and changes of files by 32-bit system calls are not seen; " +
					"compat_calls: true changes that, and costs every system call of the host some 100 ns"},
		},
	},
	{
		name:        "connect",
		trampolines: []functionHook{{"connect_file", objectRecordTypeRECORD_UNIX, []string{"__sys_connect_file"}}},
		tracepoints: []callHook{{"connect_call", objectRecordTypeRECORD_UNIX, "connect", false}},
	},
	{
		name: "send",
		trampolines: []functionHook{
			{"send_udp", objectRecordTypeRECORD_CONNECT_END, []string{"udp_sendmsg"}},
		},
		besideTrampoline: []besideHook{
			{"send_udp6", objectRecordTypeRECORD_CONNECT_END,
				func(o *Options) (string, error) { return o.kernelFunction([]string{"udpv6_sendmsg"}) },
				"outcomes of datagrams over IPv6, where it is a module of the kernel, are not seen"},
		},
		tracepoints: []callHook{
			{"send_call_to", objectRecordTypeRECORD_CONNECT_END, "sendto", false},
			{"send_call_message", objectRecordTypeRECORD_CONNECT_END, "sendmsg", false},
			{"send_call_messages", objectRecordTypeRECORD_CONNECT_END, "sendmmsg", false},
		},
	},
	{
		name: "listen",
		trampolines: []functionHook{
			{"listen_start", objectRecordTypeRECORD_LISTEN, []string{"inet_csk_listen_start"}},
			{"listen_unix", objectRecordTypeRECORD_LISTEN, []string{"unix_listen"}},
		},
		tracepoints: []callHook{{"listen_call", objectRecordTypeRECORD_LISTEN, "listen", false}},
	},
	{
		name:        "accept",
		trampolines: []functionHook{{"accept_file", objectRecordTypeRECORD_ACCEPT, []string{"do_accept"}}},
		tracepoints: []callHook{
			{"accept_call", objectRecordTypeRECORD_ACCEPT, "accept", false},
			{"accept_call4", objectRecordTypeRECORD_ACCEPT, "accept4", false},
		},
	},
	{
		name:        "socket",
		trampolines: []functionHook{{"socket_make", objectRecordTypeRECORD_SOCKET, []string{"__sock_create"}}},
		tracepoints: []callHook{{"socket_call", objectRecordTypeRECORD_SOCKET, "socket", false}},
	},
	{
		name: "change",
		trampolines: slices.Concat(
			nameHooks(),
			around("chmod", "chmod_common"),
			around("chown", "chown_common"),
			around("truncate", "vfs_truncate"),
			around("ftruncate", "do_ftruncate", "do_sys_ftruncate"), // 6.9
			around("utimes", "vfs_utimes"),
			around("mount", "path_mount"),
			around("umount", "path_umount"),
			through("chroot", "security_path_chroot", callFunctions("chroot")...),
			through("pivot_root", "security_sb_pivotroot", callFunctions("pivot_root")...),
			through("move_mount", "security_move_mount", callFunctions("move_mount")...),
			xattrHooks(),
		),
		besideTrampoline: slices.Concat(besideCall("setxattrat"), besideCall("removexattrat")),
		tracepoints: append(
			callHooks("change_call", objectRecordTypeRECORD_CHANGE, false, "unlinkat", "renameat2", "linkat", "symlinkat",
				"mkdirat", "mknodat", "truncate", "ftruncate", "fchmod", "fchmodat", "fchown", "fchownat", "setxattr",
				"lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr", "utimensat", "mount", "umount",
				"move_mount", "pivot_root", "chroot"),
			callHooks("change_call", objectRecordTypeRECORD_CHANGE, true,
				"unlink", "rmdir", "rename", "renameat", "link", "symlink", "mkdir", "mknod", "chmod", "chown", "lchown",
				"utime", "utimes", "futimesat", // not on arm64
				"fchmodat2", "setxattrat", "removexattrat")..., // since 6.6 and 6.13
		),
	},
	{
		name: "namespace",
		trampolines: []functionHook{
			{"unshare", objectRecordTypeRECORD_NAMESPACE, []string{"ksys_unshare"}},
			{"setns", objectRecordTypeRECORD_NAMESPACE, []string{"__x64_sys_setns", "__arm64_sys_setns"}},
		},
		tracepoints: []callHook{
			{"unshare_call", objectRecordTypeRECORD_NAMESPACE, "unshare", false},
			{"setns_call", objectRecordTypeRECORD_NAMESPACE, "setns", false},
		},
	},
	{
		name:        "access",
		trampolines: []functionHook{{"access_check", objectRecordTypeRECORD_ACCESS, []string{"__ptrace_may_access"}}},
		tracepoints: []callHook{
			{"access_ptrace", objectRecordTypeRECORD_ACCESS, "ptrace", false},
			{"access_readv", objectRecordTypeRECORD_ACCESS, "process_vm_readv", true}, // CONFIG_CROSS_MEMORY_ATTACH
			{"access_writev", objectRecordTypeRECORD_ACCESS, "process_vm_writev", true},
			{"access_getfd", objectRecordTypeRECORD_ACCESS, "pidfd_getfd", false},
		},
	},
	{
		name:          "refused exec",
		orTracepoints: true, // the BTF of Debian's 6.1 lacks one of the functions
		trampolines: []functionHook{
			{"exec_refused", objectRecordTypeRECORD_EXEC_FAILED, []string{"__x64_sys_execve", "__arm64_sys_execve"}},
			{"exec_refused_at", objectRecordTypeRECORD_EXEC_FAILED, []string{"__x64_sys_execveat", "__arm64_sys_execveat"}},
		},
		tracepoints: []callHook{
			{"exec_refused_call", objectRecordTypeRECORD_EXEC_FAILED, "execve", false},
			{"exec_refused_call_at", objectRecordTypeRECORD_EXEC_FAILED, "execveat", false},
		},
	},
}

// nameChanges are the changes of names, as enum change_op numbers them from 1 on: each with the functions that make it
// (renamed in 7.0), and which of their arguments is a name.
var nameChanges = []struct {
	name    string
	targets []string
	named   int
}{
	{"rename", []string{"do_renameat2", "filename_renameat2"}, 1},
	{"unlink", []string{"do_unlinkat", "filename_unlinkat"}, 1},
	{"rmdir", []string{"do_rmdir", "filename_rmdir"}, 1},
	{"mkdir", []string{"do_mkdirat", "filename_mkdirat"}, 1},
	{"mknod", []string{"do_mknodat", "filename_mknodat"}, 1},
	{"link", []string{"do_linkat", "filename_linkat"}, 1},
	{"symlink", []string{"do_symlinkat", "filename_symlinkat"}, 0},
}

// around is a program at the entry of a function, and one at its return.
func around(name string, targets ...string) []functionHook {
	return []functionHook{
		{name + "_enter", objectRecordTypeRECORD_CHANGE, targets},
		{name + "_end", objectRecordTypeRECORD_CHANGE, targets},
	}
}

// through has one more at the return of what the function calls on its way.
func through(name, middle string, targets ...string) []functionHook {
	return append(around(name, targets...), functionHook{name + "_begin", objectRecordTypeRECORD_CHANGE, []string{middle}})
}

// callFunctions are the names of a system call's own function.
func callFunctions(call string) []string { return []string{"__x64_sys_" + call, "__arm64_sys_" + call} }

func xattrHooks() (hooks []functionHook) {
	for _, call := range []string{"setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"} {
		hooks = append(hooks, around(call, callFunctions(call)...)...)
	}
	return hooks
}

// besideCall is around for a system call that not every kernel has.
func besideCall(call string) (hooks []besideHook) {
	for _, h := range around(call, callFunctions(call)...) {
		hooks = append(hooks, besideHook{h.program, h.record,
			func(o *Options) (string, error) { return o.kernelFunction(h.targets) }, "this kernel has no such system call"})
	}
	return hooks
}

// nameHooks need CONFIG_SECURITY_PATH.
func nameHooks() (hooks []functionHook) {
	for _, c := range nameChanges {
		hooks = append(hooks, through(c.name, "security_path_"+c.name, c.targets...)...)
	}
	return hooks
}

// userNames has a bit for each of these whose function takes its names from the caller's memory.
func (o *Options) userNames() (mask uint32) {
	for i, c := range nameChanges {
		target, err := o.kernelFunction(c.targets)
		if err != nil {
			continue
		}
		if name, ok := pointerAt(o.params(target), c.named); ok && btf.UnderlyingType(name.Target).TypeName() != "filename" {
			mask |= 1 << (i + 1)
		}
	}
	return mask
}

// params are the arguments of a kernel function.
func (o *Options) params(function string) []btf.FuncParam {
	var f *btf.Func
	if !o.hasType(function, &f) {
		return nil
	}
	if proto, ok := f.Type.(*btf.FuncProto); ok {
		return proto.Params
	}
	return nil
}

// programs gives each program of the group, and which records are missing when the kernel skips it.
func (g *formGroup) programs() map[string]objectRecordType {
	records := map[string]objectRecordType{}
	for _, h := range g.trampolines {
		records[h.program] = h.record
	}
	for _, h := range g.tracepoints {
		records[h.program] = h.record
	}
	for _, h := range slices.Concat(g.besideTrampoline, g.besideTracepoints) {
		records[h.program] = h.record
	}
	return records
}

// programRecords is the same of all hooks.
var programRecords = func() map[string]objectRecordType {
	records := map[string]objectRecordType{}
	for _, h := range commonHooks {
		records[h.program] = h.record
	}
	for i := range formGroups {
		maps.Copy(records, formGroups[i].programs())
	}
	return records
}()

func (o *Options) kernelFunction(names []string) (string, error) {
	for _, name := range names {
		var f *btf.Func
		if o.hasType(name, &f) {
			return name, nil
		}
	}
	return "", fmt.Errorf("the kernel has none of the functions %v", names)
}

// compatTarget is where all system calls end: the price is paid by each, so it has to be asked for.
func compatTarget(o *Options) (string, error) {
	if runtime.GOARCH != "amd64" {
		return "sys_exit", errors.New("on amd64 only")
	}
	if !o.CompatCalls {
		return "sys_exit", errors.New("not asked for (compat_calls)")
	}
	if _, err := os.Stat("/proc/sys/abi/vsyscall32"); err != nil {
		return "", fmt.Errorf("the kernel has no 32-bit system calls: %w", err)
	}
	return "sys_exit", nil
}

func ringTarget(o *Options) (string, error) {
	name, _, err := o.ringRequest()
	return name, err
}

// ringRequest finds the tracepoint, and which of its arguments is the request: the first since 6.0, the second since
// 5.13. (Debian's 5.10 has the io_uring of 5.15.) Before, there is none.
func (o *Options) ringRequest() (name string, argument int, err error) {
	for _, name := range ringTargets {
		var t *btf.Typedef
		if !o.hasType("btf_trace_"+name, &t) {
			continue
		}
		var params []btf.FuncParam
		if p, ok := t.Type.(*btf.Pointer); ok {
			if f, ok := p.Target.(*btf.FuncProto); ok {
				params = f.Params[1:] // the first is the tracepoint's own
			}
		}
		if request, ok := pointerAt(params, 0); ok && request.Target.TypeName() == "io_kiocb" {
			return name, 0, nil
		}
		if _, ok := pointerAt(params, 1); ok {
			return name, 1, nil
		}
	}
	return "", 0, fmt.Errorf("the kernel has none of the tracepoints %v with the request as an argument (5.13)",
		ringTargets)
}

// victimIsTask tells whether the tracepoint mark_victim has whom the kernel kills, or its number.
func (o *Options) victimIsTask() bool {
	var t *btf.Typedef
	if !o.hasType("btf_trace_mark_victim", &t) {
		return true
	}
	p, ok := t.Type.(*btf.Pointer)
	if !ok {
		return true
	}
	f, ok := p.Target.(*btf.FuncProto)
	if !ok {
		return true
	}
	_, ok = pointerAt(f.Params, 1) // the first is the tracepoint's own
	return ok
}

func pointerAt(params []btf.FuncParam, i int) (*btf.Pointer, bool) {
	if i >= len(params) {
		return nil, false
	}
	p, ok := params[i].Type.(*btf.Pointer)
	return p, ok
}

// rootTarget is where opens by handle go through.
func rootTarget(o *Options) (string, error) { return o.kernelFunction([]string{"do_file_open_root"}) }

// rootIsOneArgument tells whether that function takes where to start as one argument (5.13) or as two.
func (o *Options) rootIsOneArgument() bool {
	n := len(o.params("do_file_open_root"))
	return n == 0 || n == 3
}

//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Signals to processes outside of the sandbox, and whom the kernel kills to free memory; in both forms.

struct kernel_siginfo { int si_code; } CORE;

enum { SEND_SIG_PRIV = 1 };                          /* include/linux/sched/signal.h: that and 0 are no address */
enum { SI_USER = 0, SI_QUEUE = -1, SI_TKILL = -6 };  /* include/uapi/asm-generic/siginfo.h */
#if defined(__TARGET_ARCH_x86)
enum { NR_RT_SIGQUEUEINFO = 129, NR_RT_TGSIGQUEUEINFO = 297, NR_PIDFD_SEND_SIGNAL = 424 };
#else
enum { NR_RT_SIGQUEUEINFO = 138, NR_RT_TGSIGQUEUEINFO = 240, NR_PIDFD_SEND_SIGNAL = 424 };
#endif

/* Whether the current task has sent a signal. The kernel itself sends most: for a child that ended, a timer, a message. */
static __always_inline bool sent_by_user(struct kernel_siginfo *info)
{
	long number;
	int code;

	if ((__u64)info <= SEND_SIG_PRIV)
		return false;
	code = BPF_CORE_READ(info, si_code);
	if (code == SI_USER || code == SI_QUEUE || code == SI_TKILL)
		return true;
	/* Any other one below 0 is the kernel's, which may send it while any task runs, or what the caller of these says. */
	if (code > 0)
		return false;
	number = call_number();
	return number == NR_RT_SIGQUEUEINFO || number == NR_RT_TGSIGQUEUEINFO || number == NR_PIDFD_SEND_SIGNAL;
}

/* Runs for every signal of the host, once it is sure that the sender may send it. */
SEC("tp_btf/signal_generate")
int BPF_PROG(signal_sent, int sig, struct kernel_siginfo *info, struct task_struct *task)
{
	__u64 target;

	if (!current_watched() || BPF_CORE_READ(task, tgid) == bpf_get_current_pid_tgid() >> 32)
		return 0;
	target = task_cgroup(task);
	if (cgroup_flags(target) & WATCH_TASKS && sandbox_of(target) == sandbox_of(bpf_get_current_cgroup_id()))
		return 0;
	/* Of a process that has left its sandbox, user space knows whether it is the sender's. */
	if (!sent_by_user(info))
		return 0;
	return report_access(task, ACCESS_SIGNAL, 0, sig);
}

/* Whether the first argument of oom/mark_victim is the task; in older kernels, as 5.10, its number. Set by the loader. */
const volatile bool victim_is_task = true;

/* Runs in who asked for memory. */
SEC("tp_btf/mark_victim")
int oom_victim(__u64 *ctx)
{
	struct pid *own = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), thread_pid);
	struct pid_namespace *host = NULL;
	struct task_struct *task;
	struct record_oom *r;
	struct header h;
	__u64 cgroup;

	/* As in open_root. */
	if (victim_is_task) {
		task = (void *)ctx[0];
		barrier_var(task);
	} else {
		__u32 number = ctx[0];

		bpf_core_read(&host, sizeof(host), &own->numbers[0].ns);
		task = task_by_number(host, number);
		if (!task)
			return 0;
	}
	cgroup = task_cgroup(task);
	if (!(cgroup_flags(cgroup) & WATCH_TASKS) && !is_followed(BPF_CORE_READ(task, tgid)))
		return 0;
	fill_header(&h, RECORD_OOM, task, cgroup);
	r = reserve(struct record_oom, &h);
	if (!r)
		return 0;
	r->by_tgid = bpf_get_current_pid_tgid() >> 32;
	submit(r);
	return 0;
}

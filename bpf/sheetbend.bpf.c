//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// The kernel side as one object, for kernels from 5.10 on; one file a subject. (holder.bpf.c is another.)

#include "core.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "records.h"
#include "ring.h"
#include "held.h"
#include "sandbox.h"
#include "path.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#include "open.bpf.c"
#include "changecall.bpf.c"
#include "change.bpf.c"
#include "changepath.bpf.c"
#include "namespace.bpf.c"
#include "process.bpf.c"
#include "exec.bpf.c"
#include "socket.bpf.c"
#include "packet.bpf.c"
#include "close.bpf.c"
#include "connect.bpf.c"
#include "listen.bpf.c"
#include "access.bpf.c"
#include "uring.bpf.c"
#include "refused.bpf.c"
#include "signal.bpf.c"
#include "compat.bpf.c"
#include "cgroup.bpf.c"

/* Keeps the layouts in the object's BTF, from which the Go types are generated. */
const enum record_type *keep_record_type __attribute__((unused));
const enum process_kinds *keep_process_kinds __attribute__((unused));
const enum loss_cause *keep_loss_cause __attribute__((unused));
const struct header *keep_header __attribute__((unused));
const struct record_fork *keep_record_fork __attribute__((unused));
const struct record_exec *keep_record_exec __attribute__((unused));
const struct record_exec_args *keep_record_exec_args __attribute__((unused));
const struct record_exit *keep_record_exit __attribute__((unused));
const struct record_open *keep_record_open __attribute__((unused));
const struct record_connect *keep_record_connect __attribute__((unused));
const struct record_connect_end *keep_record_connect_end __attribute__((unused));
const struct record_unix *keep_record_unix __attribute__((unused));
const struct record_cgroup *keep_record_cgroup __attribute__((unused));
const struct record_attach *keep_record_attach __attribute__((unused));
const struct record_process *keep_record_process __attribute__((unused));
const struct record_socket *keep_record_socket __attribute__((unused));
const struct record_namespace *keep_record_namespace __attribute__((unused));
const struct record_access *keep_record_access __attribute__((unused));
const struct record_change *keep_record_change __attribute__((unused));
const struct record_listen *keep_record_listen __attribute__((unused));
const struct record_accept *keep_record_accept __attribute__((unused));
const struct record_close *keep_record_close __attribute__((unused));
const struct record_packet *keep_record_packet __attribute__((unused));
const struct record_exec_failed *keep_record_exec_failed __attribute__((unused));
const struct record_oom *keep_record_oom __attribute__((unused));
const struct noise_key *keep_noise_key __attribute__((unused));
const struct noise_path *keep_noise_path __attribute__((unused));

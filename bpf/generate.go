// SPDX-License-Identifier: Apache-2.0

package bpf

// The generated objects are committed, so that building needs no clang. CI regenerates and compares.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -no-global-types -type record_type -type loss_cause -type header -type record_fork -type record_exec -type record_exec_args -type record_exit -type record_open -type record_connect -type record_connect_end -type record_unix -type record_cgroup -type record_attach -type record_process -type record_socket -type record_namespace -type record_access -type loss_key -type noise_key -type noise_path -go-package bpf object sheetbend.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -no-global-types -type holder -go-package bpf holder holder.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I.

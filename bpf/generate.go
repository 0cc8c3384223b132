// SPDX-License-Identifier: Apache-2.0

package bpf

// The generated objects are committed, so that building needs no clang. CI regenerates and compares.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -no-global-types -type record_type -type loss_cause -type loss_key -type noise_key -type noise_path -go-package bpf object sheetbend.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -no-global-types -type holder -go-package bpf holder holder.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3 -I.

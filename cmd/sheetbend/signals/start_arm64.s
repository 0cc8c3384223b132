// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

#include "textflag.h"

// It has C's conventions. Go's library keeps nothing but g in registers here.
TEXT sheetbend_at_start(SB), NOSPLIT|NOFRAME, $0
	MOVD	$135, R8 // rt_sigprocmask(SIG_BLOCK, NULL, &blocked, 8)
	MOVD	$0, R0
	MOVD	$0, R1
	MOVD	$·blocked(SB), R2
	MOVD	$8, R3
	SVC
	MOVD	$1, R9
	MOVD	$·actions(SB), R10

signal:
	MOVD	$134, R8 // rt_sigaction(signal, NULL, &actions[signal-1], 8)
	MOVD	R9, R0
	MOVD	$0, R1
	MOVD	R10, R2
	MOVD	$8, R3
	SVC
	ADD	$32, R10
	ADD	$1, R9
	CMP	$64, R9
	BLE	signal
	MOVD	$0, R9
	MOVD	$·files(SB), R10

file:
	MOVD	$25, R8 // fcntl(file, F_GETFD)
	MOVD	R9, R0
	MOVD	$1, R1
	SVC
	MOVD	R0, (R10)
	ADD	$8, R10
	ADD	$1, R9
	CMP	$3, R9
	BLT	file
	MOVD	$1, R0
	MOVD	R0, ·hooked(SB)
	RET

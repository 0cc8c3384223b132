// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// handler is a handler of signals, which runs on the thread's stack for them: write(pipe, info, 128). A full pipe
// refuses it. It returns to the kernel's own code.
TEXT handler<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVD	$64, R8
	MOVW	·pipe(SB), R0
	MOVD	$128, R2
	SVC
	RET

TEXT ·handlerAddress(SB), NOSPLIT, $0-8
	MOVD	$handler<>(SB), R0
	MOVD	R0, ret+0(FP)
	RET

TEXT ·restorerAddress(SB), NOSPLIT, $0-8
	MOVD	ZR, ret+0(FP)
	RET

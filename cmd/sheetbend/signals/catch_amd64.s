// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// handler is a handler of signals, which runs on the thread's stack for them: write(pipe, info, 128). A full pipe
// refuses it.
TEXT handler<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVL	$1, AX
	MOVL	·pipe(SB), DI
	MOVL	$128, DX
	SYSCALL
	RET

// restorer is where it returns to: rt_sigreturn.
TEXT restorer<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVL	$15, AX
	SYSCALL
	INT	$3

TEXT ·handlerAddress(SB), NOSPLIT, $0-8
	LEAQ	handler<>(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

TEXT ·restorerAddress(SB), NOSPLIT, $0-8
	LEAQ	restorer<>(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

/* SPDX-License-Identifier: MIT */
/*
 * See vector_work.h. R9 counts down and RBX up; R8 collects what the status registers say. A double x becomes
 * factor * x * (1 - x), which stays between 0 and 1. Integers are in vector registers 0 to 6, doubles from 8 on; 7 is
 * for 1 - x.
 */
	.text
	.globl vector_work_sse, vector_work_avx, vector_work_avx512, vector_work_end

	/* The fields of struct vector_work. */
	.set SCRATCH, 0x00
	.set HAS_PKRU, 0x10
	.set ROUNDS, 0x14
	.set MXCSR, 0x20
	.set FCW, 0x40
	.set FOLDED, 0x50
	.set X87, 0x80
	.set ONES, 0x100
	.set FACTORS, 0x140
	.set VECTORS, 0x180
	.set MASKS, 0x980
	.set AREA, 0x1000

.macro begin
	fninit
	.irp n, 0,1,2,3,4,5,6
	fldl	X87 + 8 * \n (%rsi)
	.endr
	mov	ROUNDS(%rsi), %r9d
	xor	%ebx, %ebx
	xor	%r8d, %r8d
	cmpb	$0, HAS_PKRU(%rsi)
	jz	4f
	xor	%eax, %eax
	xor	%ecx, %ecx
	xor	%edx, %edx
	wrpkru
4:
.endm

.macro x87_value
	fld1
	fsub	%st(1), %st
	fmulp	%st, %st(1)
	fmul	%st(6), %st
.endm

.macro round_begin
1:
	.irp n, 1,2,3,4,5
	x87_value
	fxch	%st(\n)
	.endr
	lea	(%rbx, %rbx, 4), %eax
	shr	$3, %eax
	and	$7, %eax
	stmxcsr	SCRATCH(%rsi)
	mov	SCRATCH(%rsi), %edx
	xor	%rdx, %r8
	ldmxcsr	MXCSR(%rsi, %rax, 4)
	fnstsw	SCRATCH(%rsi)
	movzwl	SCRATCH(%rsi), %edx
	rol	$5, %r8
	xor	%rdx, %r8
	fldcw	FCW(%rsi, %rax, 2)
	test	$15, %bl
	jnz	2f
	fnclex
2:	cmpb	$0, HAS_PKRU(%rsi)
	jz	3f
	xor	%ecx, %ecx
	rdpkru
	add	%rax, %r8
	lea	(%rax, %rbx, 8), %eax
	and	$-4, %eax		/* key 0 is for all memory */
	xor	%edx, %edx
	wrpkru
3:
.endm

/* The registers are stored by `save`. */
.macro end save:vararg
	inc	%ebx
	dec	%r9d
	jnz	1b
	mov	$-1, %eax
	mov	$-1, %edx
	\save
	mov	%r8, FOLDED(%rsi)
	ret
.endm

vector_work_sse:
	begin
	.irp n, 0,1,2,3,4,5,6,8,9,10,11,12,13,14,15
	movups	VECTORS + 64 * \n (%rsi), %xmm\n
	.endr
	round_begin
	.irp n, 1,2,3,4,5,6
	paddq	%xmm0, %xmm\n
	pxor	%xmm\n, %xmm0
	pshufd	$0x39, %xmm0, %xmm0
	.endr
	.irp n, 8,9,10,11,12,13,14,15
	movaps	ONES(%rsi), %xmm7
	subpd	%xmm\n, %xmm7
	mulpd	%xmm7, %xmm\n
	mulpd	FACTORS(%rsi), %xmm\n
	.endr
	end fxsave64 AREA(%rsi)

vector_work_avx:
	begin
	.irp n, 0,1,2,3,4,5,6,8,9,10,11,12,13,14,15
	vmovups	VECTORS + 64 * \n (%rsi), %ymm\n
	.endr
	round_begin
	.irp n, 1,2,3,4,5,6
	vpaddq	%ymm0, %ymm\n, %ymm\n
	vpxor	%ymm\n, %ymm0, %ymm0
	vpshufd	$0x39, %ymm0, %ymm0
	vpermq	$0x39, %ymm0, %ymm0
	.endr
	.irp n, 8,9,10,11,12,13,14,15
	vmovups	ONES(%rsi), %ymm7
	vsubpd	%ymm\n, %ymm7, %ymm7
	vmulpd	%ymm7, %ymm\n, %ymm\n
	vmulpd	FACTORS(%rsi), %ymm\n, %ymm\n
	.endr
	end xsave64 AREA(%rsi)

vector_work_avx512:
	begin
	.irp n, 0,1,2,3,4,5,6,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
	vmovups	VECTORS + 64 * \n (%rsi), %zmm\n
	.endr
	.irp n, 0,1,2,3,4,5,6,7
	kmovq	MASKS + 8 * \n (%rsi), %k\n
	.endr
	round_begin
	.irp n, 2,3,4,5,6,7
	kaddq	%k1, %k\n, %k\n
	kxorq	%k\n, %k1, %k1
	.endr
	vpcmpuq	$1, %zmm0, %zmm2, %k0
	kxorq	%k0, %k1, %k1
	.irp n, 1,2,3,4,5,6,16,17,18,19,20,21,22,23
	vpaddq	%zmm0, %zmm\n, %zmm\n{%k3}
	vpxorq	%zmm\n, %zmm0, %zmm0
	vprolq	$13, %zmm0, %zmm0
	.endr
	vpermq	%zmm0, %zmm1, %zmm0
	.irp n, 8,9,10,11,12,13,14,15,24,25,26,27,28,29,30,31
	vmovups	ONES(%rsi), %zmm7
	vsubpd	%zmm\n, %zmm7, %zmm7
	vmulpd	%zmm7, %zmm\n, %zmm\n
	vmulpd	FACTORS(%rsi), %zmm\n, %zmm\n
	.endr
	end xsave64 AREA(%rsi)
vector_work_end:

	.section .note.GNU-stack, "", @progbits

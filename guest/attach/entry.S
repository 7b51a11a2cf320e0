/*
 * How stage 1 is entered and left.
 *
 * The kernel calls `entry` in place of a work item's function, with the item in rdi. Several items
 * may be hooked, so several CPUs may come: whoever switches the first hook back while the host
 * says "armed" goes on, the others jump to the function they were meant for and never return here.
 * The host arms only when all hooks are in place, and disarms before it looks whether somebody
 * has begun: so no hook is ever left behind, and nothing is wiped that runs.
 */
#include "stage1.h"

	.section .entry, "ax"
	.globl entry
entry:
	endbr64
	jmp begin
	.org entry + HEADER_OFFSET, 0xcc

	.globl header
header:
	.quad STAGE1_MAGIC
	.quad 0 /* size */
	.quad payload
	.quad 0 /* payload_size */
	.quad names
	.quad imports
	.quad IMPORT_COUNT
	.skip HEADER_SIZE - 56

	.section .text
begin:
	cmpq $0, header + HEADER_ARMED(%rip)
	je loser
	lea entry(%rip), %rax
	mov header + HEADER_HOOKS(%rip), %rcx
	mov header + HEADER_HOOKS + 8(%rip), %rdx
	lock cmpxchg %rdx, (%rcx)
	jne loser
	cmpq $0, header + HEADER_ARMED(%rip)
	jne winner
	/* the item's own function, by the table: the item may still point here */
loser:	lea WORK_FUNC(%rdi), %rax
	lea header + HEADER_HOOKS(%rip), %rcx
1:	cmp %rax, (%rcx)
	je 2f
	add $16, %rcx
	jmp 1b
2:	jmp *8(%rcx)

winner:
	sub $8, %rsp
	call stage1
	add $8, %rsp
	test %rax, %rax
	jz 3f
	/* Leave the padding for good: the finish, at the region's start, wipes it. The jump is by
	 * `ret` because an indirect jump would need an endbr64 there, and below in functions the
	 * kernel may have sealed against indirect calls. */
	mov %rax, %rdi
	push %rax
3:	ret

	.macro call_by_return offset
	lea 9f(%rip), %rax
	push %rax
	pushq \offset(%rbx)
	ret
9:
	.endm

/*
 * Runs in the region, a copy, so position-independent to the last byte: wipes the padding by the
 * guest's own hand (a write from outside would leave QEMU's TCG with stale translations), frees
 * the region it runs in by jumping to vfree, whose return goes to stage 1's caller.
 *
 * rdi: the region.
 */
	.section .finish, "ax"
	.globl finish, finish_end
finish:
	push %rbx
	push %r12
	push %r13
	push %r14
	sub $8, %rsp
	mov %rdi, %r12
	lea REGION_REPORT(%rdi), %rbx
	mov REPORT_BLOB(%rbx), %r13
	mov REPORT_BLOB_SIZE(%rbx), %r14
	mov REPORT_TEXT_MUTEX(%rbx), %rdi
	call_by_return REPORT_MUTEX_LOCK
1:	test %r14, %r14
	jz 2f
	mov $PAGE, %edx
	cmp %rdx, %r14
	cmovb %r14, %rdx
	sub %rdx, %r14
	mov %r13, %rdi
	add %rdx, %r13
	lea REGION_FILL(%r12), %rsi
	call_by_return REPORT_TEXT_POKE
	jmp 1b
2:	mov REPORT_TEXT_MUTEX(%rbx), %rdi
	call_by_return REPORT_MUTEX_UNLOCK
	mov %r12, %rdi
	mov REPORT_VFREE(%rbx), %rax
	add $8, %rsp
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	push %rax
	ret
finish_end:

	.section .note.GNU-stack, "", @progbits

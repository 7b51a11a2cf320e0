/*
 * How stage 1 is entered and left.
 *
 * The kernel calls a stub in place of a softirq's action, on any of its CPUs. While the host says
 * "armed" the first to come wins: it puts all actions back and queues stage 1 as work, since a softirq
 * must not sleep. Everybody goes on to the action that was meant.
 *
 * The host arms when all hooks are in place. When it gives up it disarms first; a winner that sees
 * this declines. So host and guest always agree on who puts the actions back.
 */
#include "stage1.h"

	.section .header, "a"
	.globl header
header:
	.quad STAGE1_MAGIC
	.quad end
	.quad stubs
	.quad names
	.quad imports
	.long IMPORT_COUNT
	.long 0
	.skip HEADER_SIZE - 48

	.section .stubs, "ax"
	.globl stubs
	.set index, 0
stubs:
	.rept HOOKS_MAX
	.balign STUB_SIZE, 0xcc
	endbr64
	mov $index, %eax
	jmp begin
	.set index, index + 1
	.endr

	.section .text
begin:
	mov header + HEADER_DATA(%rip), %rdx
	mov %rax, %r8
	cmpq $0, DATA_ARMED(%rdx)
	je original
	xor %eax, %eax
	mov $BEGUN_TRYING, %ecx
	lock cmpxchg %rcx, DATA_BEGUN(%rdx)
	jne original
	cmpq $0, DATA_ARMED(%rdx)
	jne winner
	movq $BEGUN_DECLINED, DATA_BEGUN(%rdx)
original:
	lea header + HEADER_HOOKS(%rip), %rcx
	shl $4, %r8
	jmp *8(%rcx, %r8)

winner:
	push %r8
	push %rdi
	push %rdx
	movq $BEGUN_YES, DATA_BEGUN(%rdx)
	lea header + HEADER_HOOKS(%rip), %rcx
	lea stubs(%rip), %rdx
	mov header + HEADER_HOOK_COUNT(%rip), %r8
1:	test %r8, %r8
	jz 2f
	mov (%rcx), %rdi
	mov 8(%rcx), %r9
	mov %rdx, %rax
	lock cmpxchg %r9, (%rdi)
	add $16, %rcx
	add $STUB_SIZE, %rdx
	dec %r8
	jmp 1b
2:	lea work(%rip), %rdi
	mov (%rsp), %rsi
	add $DATA_WORK, %rsi
	call execute_in_process_context
	pop %rdx
	pop %rdi
	pop %r8
	jmp original

/*
 * The work: stage 1, and then, in its caller's place, the kernel's own wiping of this page. A write
 * from outside would leave QEMU's TCG with stale translations of it.
 */
work:
	endbr64
	sub $8, %rsp
	call stage1
	add $8, %rsp
	test %rax, %rax
	jz 1f
	mov %rax, %rdi
	xor %esi, %esi
	mov $PAGE, %edx
	jmp wipe_page
1:	ret

	.section .note.GNU-stack, "", @progbits

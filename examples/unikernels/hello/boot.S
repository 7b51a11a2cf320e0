/*
 * From where the hypervisor enters to C: 32-bit protected mode without paging (the x86/HVM direct
 * boot ABI, "PVH"), then long mode with the first 4 GiB mapped as they are. That is where RAM, the
 * APICs and virtio's registers lie.
 */

#define PVH_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
#define PRESENT_WRITABLE 3
#define LARGE 0x80
#define CR4_PAE 0x20
#define CR0_PAGING 0x80000000
#define EFER 0xc0000080
#define EFER_LONG_MODE 0x100
#define CODE 8
#define DATA 16

	.section .note.pvh, "a", @note
	.balign 4
	.long 4
	.long 8
	.long PVH_ENTRY
	.asciz "Xen"
	.quad boot

	.section .bss
	.balign 4096
level4:	.skip 4096
level3:	.skip 4096
level2:	.skip 4 * 4096
stack:	.skip 32768
stack_end:

	.section .rodata
	.balign 8
gdt:
	.quad 0
	.quad 0x00af9b000000ffff /* 64-bit code */
	.quad 0x00cf93000000ffff /* data */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt

	.section .text
	.code32
	.globl boot
boot:
	cld
	mov $stack_end, %esp
	mov %ebx, %esi

	/* .bss is zero: the loader has made it so */
	movl $(level3 + PRESENT_WRITABLE), level4
	mov $(level2 + PRESENT_WRITABLE), %eax
	mov $level3, %edi
	mov $4, %ecx
1:	mov %eax, (%edi)
	add $4096, %eax
	add $8, %edi
	loop 1b
	mov $(PRESENT_WRITABLE | LARGE), %eax
	mov $level2, %edi
	mov $2048, %ecx
2:	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 2b

	mov %cr4, %eax
	or $CR4_PAE, %eax
	mov %eax, %cr4
	mov $level4, %eax
	mov %eax, %cr3
	mov $EFER, %ecx
	rdmsr
	or $EFER_LONG_MODE, %eax
	wrmsr
	mov %cr0, %eax
	or $CR0_PAGING, %eax
	mov %eax, %cr0
	lgdt gdt_pointer
	ljmp $CODE, $long_mode

	.code64
long_mode:
	mov $DATA, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	mov $stack_end, %rsp
	mov %esi, %edi
	call main
	ud2

/*
 * The CPU's exceptions, all of which are fatal: exception(number, error code, instruction). It
 * pushes an error code for those of the mask.
 */
	.set WITH_CODE, 0x60227d00
	.set number, 0
	.globl exception_entries
	.balign 16
exception_entries:
	.rept 32
	.balign 16
	.if !((WITH_CODE >> number) & 1)
	push $0
	.endif
	push $number
	jmp exception_common
	.set number, number + 1
	.endr

exception_common:
	pop %rdi
	pop %rsi
	pop %rdx
	and $-16, %rsp
	call exception
	ud2

/* Interrupts only end a halt; what they were about the main loop looks up itself. */
	.globl interrupt_entry
interrupt_entry:
	push %rax
	mov $0xfee000b0, %eax /* the local APIC's end of interrupt */
	movl $0, (%rax)
	pop %rax
	iretq

/* An interrupt that was withdrawn before it was taken is not acknowledged. */
	.globl spurious_entry
spurious_entry:
	iretq

	.section .note.GNU-stack, "", @progbits

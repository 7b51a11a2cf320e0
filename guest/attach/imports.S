/*
 * Where stage 1's calls into the kernel land: one `jmp rel32` each, which the host fills in (the
 * padding is within 2 GiB of every kernel function, and direct jumps need no endbr64). The names
 * follow for the host; where a function was renamed, alternatives are parted by `|`.
 */
	.section .imports, "ax"
	.globl imports, imports_end
	.balign 8
imports:
	.macro import name, names
	.globl \name
\name:
	.byte 0xe9
	.long 0
	.byte 0xcc, 0xcc, 0xcc
	.pushsection .names, "a"
	.asciz "\names"
	.popsection
	.endm

	import vzalloc, "vzalloc|vzalloc_noprof"
	import vfree, "vfree"
	import find_vm_area, "find_vm_area"
	import set_memory_ro, "set_memory_ro"
	import set_memory_x, "set_memory_x"
	import text_poke, "text_poke"
	import mutex_lock, "mutex_lock"
	import mutex_unlock, "mutex_unlock"
	import msleep, "msleep"
	import synchronize_rcu_tasks, "synchronize_rcu_tasks|synchronize_rcu"
	import get_fs_type, "get_fs_type"
	import kern_mount, "kern_mount"
	import kern_unmount, "kern_unmount"
	import file_open_root, "file_open_root"
	import kernel_write, "kernel_write"
	import kernel_read, "kernel_read"
	import filp_close, "filp_close"
	import flush_delayed_fput, "flush_delayed_fput"
	import get_unused_fd_flags, "get_unused_fd_flags"
	import fd_install, "fd_install"
	import __x64_sys_fchdir, "__x64_sys_fchdir"
	import call_usermodehelper_setup, "call_usermodehelper_setup"
	import call_usermodehelper_exec, "call_usermodehelper_exec"
imports_end:
	.section .note.GNU-stack, "", @progbits

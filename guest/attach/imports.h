/*
 * The kernel functions that stage 1 calls, as their own headers declare them (include/linux/...).
 * All exist, with these arguments, from 5.12 to 7.x; imports.S lists them for the host.
 */
#ifndef MIZZEN_IMPORTS_H
#define MIZZEN_IMPORTS_H

struct file;
struct path;
struct pt_regs;
struct vm_struct;
struct file_system_type;

void *vzalloc(unsigned long size);
void vfree(const void *address);
struct vm_struct *find_vm_area(const void *address);
int set_memory_ro(unsigned long address, int pages);
int set_memory_x(unsigned long address, int pages);
void *text_poke(void *address, const void *code, unsigned long size);
void mutex_lock(void *mutex);
void mutex_unlock(void *mutex);
void msleep(unsigned int milliseconds);
void synchronize_rcu_tasks(void);
struct file_system_type *get_fs_type(const char *name);
void *kern_mount(struct file_system_type *type);
void kern_unmount(void *mount);
struct file *file_open_root(const struct path *root, const char *name, int flags,
                            unsigned short mode);
long kernel_write(struct file *file, const void *data, unsigned long size, long long *position);
long kernel_read(struct file *file, void *data, unsigned long size, long long *position);
int filp_close(struct file *file, void *files);
void flush_delayed_fput(void);
int get_unused_fd_flags(unsigned int flags);
void fd_install(unsigned int descriptor, struct file *file);
long __x64_sys_fchdir(const struct pt_regs *registers);
void *call_usermodehelper_setup(const char *path, char **arguments, char **environment,
                                unsigned int gfp, int (*init)(void *, void *),
                                void (*cleanup)(void *), void *data);
int call_usermodehelper_exec(void *info, int wait);
#endif

/*
 * Stage 1: runs once inside the guest kernel, in a kworker, and starts stage 2 in user space.
 *
 * It needs nothing of the guest's file systems: stage 2 goes into a ramfs of the kernel's own that
 * is mounted nowhere and vanishes with stage 2. Every kernel has ramfs, as the root of all mounts.
 *
 * Kernel functions are called by their own names; the host fills in where they are (imports.h).
 */
#include "stage1.h"
#include "imports.h"

extern const struct header header;

#define O_RDONLY 0
#define O_WRONLY 01
#define O_RDWR 02
#define O_CREAT 0100
#define O_DIRECTORY 0200000
#define O_CLOEXEC 02000000
#define KERNEL_MAP 0xffffffff80000000UL
#define INFO_WORDS 12    /* struct subprocess_info, include/linux/umh.h */
#define GFP_KERNEL 0xcc0 /* include/linux/gfp_types.h; the same value since 4.20 */
#define UMH_WAIT_EXEC 1
#define TASK_UNINTERRUPTIBLE 2
#define POLL_US 100
#ifndef SECOND                     /* tests have less patience */
#define SECOND (1000000 / POLL_US) /* at least; sleeps take longer than they are told */
#endif
#define FILL_POLLS (2 * SECOND)
#define CLAIM_POLLS (10 * SECOND)
#define HELLO_POLLS (8 * SECOND)
#define ACK_POLLS (2 * SECOND)

struct path {
    u64 mount, root;
};

/* struct pt_regs, arch/x86/include/asm/ptrace.h: rdi is the 15th word of 21 */
struct pt_regs {
    u64 before[14], di, after[6];
};

static struct data *data_page(void) {
    return (struct data *)header.data;
}

static int is_error(const void *pointer) {
    return (u64)pointer >= (u64)-4095;
}

static void enter_state(u64 state) {
    __atomic_store_n(&data_page()->state, state, __ATOMIC_RELEASE);
}

static void fail(long error) {
    data_page()->step = data_page()->state;
    data_page()->error = error;
    enter_state(STATE_FAILED);
}

static int wait_for(u64 *word, int polls) {
    for (int i = 0; i < polls; i++) {
        if (__atomic_load_n(word, __ATOMIC_ACQUIRE))
            return 1;
        usleep_range(POLL_US, 2 * POLL_US, TASK_UNINTERRUPTIBLE);
    }
    return 0;
}

/* Makes the ramfs the working directory of the process we are in. */
static int enter_mount(const struct cred *credentials) {
    struct path path = {data_page()->mount, data_page()->root};
    struct file *file = dentry_open(&path, O_RDONLY | O_DIRECTORY, credentials);
    if (is_error(file))
        return (int)(long)file;
    int descriptor = get_unused_fd_flags(O_CLOEXEC);
    if (descriptor < 0) {
        filp_close(file, 0);
        return descriptor;
    }
    fd_install((unsigned int)descriptor, file);
    struct pt_regs registers = {.di = (u64)descriptor};
    return (int)__x64_sys_fchdir(&registers);
}

/*
 * Runs in stage 2's process before exec: there, relative paths may be used, since unlike a kworker
 * it has a working directory of its own.
 */
static int prepare_process(void *info, void *credentials) {
    (void)info;
    struct data *data = data_page();
    long long position = 0;
    int error = enter_mount(credentials);
    if (error)
        return error;
    struct file *file = filp_open("mizzen", O_WRONLY | O_CREAT, 0700);
    if (is_error(file))
        return (int)(long)file;
    long written = kernel_write(file, (void *)data->buffer, header.payload_size, &position);
    filp_close(file, 0);
    /* Close it at once, or exec would find it open for writing, ETXTBSY: until 5.18 this process
     * counts as a kernel thread, whose files are closed by a work item (fs/file_table.c, fput). */
    flush_delayed_fput();
    task_work_run();
    if (written != header.payload_size)
        return written < 0 ? (int)written : -28; /* ENOSPC */
    file = filp_open("hello", O_RDWR | O_CREAT, 0600);
    if (is_error(file))
        return (int)(long)file;
    data->hello_file = (u64)file;
    return 0;
}

/*
 * Where CONFIG_STATIC_USERMODEHELPER is set, the kernel puts a path of its own, a string of its
 * image, in the place of ours: take it back. In struct subprocess_info nothing else leads to a '/';
 * its order may be shuffled (__randomize_layout).
 */
static void insist_on_path(u64 info[INFO_WORDS], const char *path) {
    for (int i = 0; i < INFO_WORDS; i++) {
        if (info[i] >= KERNEL_MAP && *(const char *)info[i] == '/')
            info[i] = (u64)path;
    }
}

static int start_stage2(void) {
    char *arguments[] = {"mizzen", (char *)header.token, 0};
    char *environment[] = {0};
    const char *path = "./mizzen";
    void *info =
        call_usermodehelper_setup(path, arguments, environment, GFP_KERNEL, prepare_process, 0, 0);
    if (!info)
        return -12; /* ENOMEM */
    insist_on_path(info, path);
    return call_usermodehelper_exec(info, UMH_WAIT_EXEC);
}

/* Stage 2 writes its hello with one write, so it is there as a whole or not at all. */
static long read_hello(void) {
    struct data *data = data_page();
    for (int i = 0; i < HELLO_POLLS; i++) {
        long long position = 0;
        long size = kernel_read((struct file *)data->hello_file, data->hello, HELLO_MAX, &position);
        if (size)
            return size;
        usleep_range(POLL_US, 2 * POLL_US, TASK_UNINTERRUPTIBLE);
    }
    return -110; /* ETIMEDOUT */
}

static void run(void) {
    struct data *data = data_page();
    enter_state(STATE_MOUNT);
    void *mount = kern_mount(get_fs_type("ramfs"));
    if (is_error(mount)) {
        fail((long)mount);
        return;
    }
    data->mount = (u64)mount;
    data->root = *(u64 *)mount; /* struct vfsmount begins with mnt_root */
    enter_state(STATE_EXEC);
    long result = start_stage2();
    if (!result) {
        enter_state(STATE_HELLO);
        result = read_hello();
    }
    if (data->hello_file)
        filp_close((struct file *)data->hello_file, 0);
    if (result > 0) {
        data->hello_size = (u64)result;
        enter_state(STATE_READY);
    } else {
        fail(result);
    }
    kern_unmount(mount); /* stage 2 itself keeps it alive from here on */
}

static void wipe(u64 page) {
    wipe_page((void *)page, 0, PAGE);
}

/* What earlier attaches left, in a place that no CPU can be in any more. */
static void wipe_parked(void) {
    for (u64 i = 0; i < header.parked_count; i++) {
        struct data *data = (struct data *)(header.parked[i] + PAGE);
        if (data->state == STATE_PARKED)
            vfree((void *)data->buffer);
        wipe(header.parked[i]);
        wipe((u64)data);
    }
}

/* Waits until stage 2 is in the buffer. 0 if it never came, and the buffer may be freed; -1 if the
 * host may still come. */
static int wait_for_stage2(void) {
    struct data *data = data_page();
    if (wait_for(&data->filled, FILL_POLLS))
        return 1;
    __atomic_store_n(&data->withdrawn, 1, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&data->claimed, __ATOMIC_SEQ_CST))
        return 0;
    return wait_for(&data->filled, CLAIM_POLLS) ? 1 : -1;
}

u64 stage1(void);
/* Returns the page to wipe at last, our own; 0 to leave it. */
u64 stage1(void) {
    struct data *data = data_page();
    void *buffer = vzalloc(header.payload_size);
    int came = 0;
    enter_state(STATE_BUFFER);
    if (buffer) {
        __atomic_store_n(&data->buffer, (u64)buffer, __ATOMIC_RELEASE);
        came = wait_for_stage2();
        if (came > 0)
            run();
        else if (!came)
            fail(-110);
        if (came >= 0)
            vfree(buffer);
    } else {
        fail(-12);
    }
    if (came >= 0)
        wait_for(&data->acknowledged, ACK_POLLS);
    /* Another CPU may be in a stub: softirqs run inside RCU's read side, also on PREEMPT_RT. */
    synchronize_rcu();
    wipe_parked();
    if (came < 0) {
        enter_state(STATE_PARKED);
        return 0;
    }
    u64 page = header.data - PAGE;
    wipe(header.data);
    return page;
}

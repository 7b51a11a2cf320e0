/*
 * Stage 1: runs once inside the guest kernel, in a kworker, and starts stage 2 in user space.
 *
 * It needs nothing of the guest's file systems: stage 2 goes into a tmpfs of the kernel's own that
 * is mounted nowhere, as kernel/usermode_driver.c does, and which vanishes with stage 2.
 *
 * Kernel functions are called by their own names; the host fills in where they are (imports.h).
 */
#include "stage1.h"
#include "imports.h"

extern struct header header;
extern char entry[], finish[], finish_end[];

#define O_RDONLY 0
#define O_WRONLY 01
#define O_CREAT 0100
#define O_DIRECTORY 0200000
#define O_CLOEXEC 02000000
#define GFP_KERNEL 0xcc0 /* include/linux/gfp_types.h; the same value since 4.20 */
#define UMH_WAIT_EXEC 1
#define POLL_MS 2
#define HELLO_POLLS 4000 /* some 16 s at HZ=250, where msleep(2) takes two to three ticks */
#define ACK_POLLS 1000

struct path {
    u64 mount, root;
};

/* struct pt_regs, arch/x86/include/asm/ptrace.h: rdi is the 15th word of 21 */
struct pt_regs {
    u64 before[14], di, after[6];
};

/* include/linux/vmalloc.h; so since 5.3 */
#define VM_FLUSH_RESET_PERMS 0x100
struct vm_struct {
    void *next, *addr;
    u64 size, flags;
};

static int is_error(const void *pointer) {
    return (u64)pointer >= (u64)-4095;
}

static struct report *report_of(u64 region) {
    return (struct report *)(region + REGION_REPORT);
}

static void fail(struct report *report, u64 step, long error) {
    report->step = step;
    report->error = error;
    __atomic_store_n(&report->state, STATE_FAILED, __ATOMIC_RELEASE);
}

/* Where the region is, told in the one place the host knows: our own header. */
static void publish(u64 region) {
    mutex_lock((void *)header.text_mutex);
    text_poke(&header.region, &region, sizeof(region));
    mutex_unlock((void *)header.text_mutex);
}

static u64 prepare_region(void) {
    char *region = vzalloc(REGION_PAGES * PAGE);
    if (!region)
        return 0;
    for (char *from = finish, *to = region; from < finish_end; from++, to++)
        *to = *from;
    for (int i = 0; i < PAGE; i++)
        region[REGION_FILL + i] = (char)0xcc;
    struct report *report = report_of((u64)region);
    report->blob = (u64)entry;
    report->blob_size = header.size;
    report->text_mutex = header.text_mutex;
    report->mutex_lock = header.mutex_lock;
    report->mutex_unlock = header.mutex_unlock;
    report->text_poke = header.text_poke;
    report->vfree = header.vfree;
    /* Never writable and executable at once: the kernel warns of it. Taking the right to write
     * touches the direct map as well; this flag makes vfree give it back, as for BPF programs. */
    struct vm_struct *area = find_vm_area(region);
    if (!area || area->addr != region) {
        vfree(region);
        return 0;
    }
    area->flags |= VM_FLUSH_RESET_PERMS;
    if (set_memory_ro((u64)region, 1) || set_memory_x((u64)region, 1)) {
        vfree(region);
        return 0;
    }
    return (u64)region;
}

static int write_stage2(struct report *report) {
    long long position = 0;
    struct file *file =
        file_open_root((struct path *)&report->mount, "mizzen", O_WRONLY | O_CREAT, 0700);
    if (is_error(file))
        return (int)(long)file;
    long written = kernel_write(file, entry + header.payload, header.payload_size, &position);
    filp_close(file, 0);
    flush_delayed_fput(); /* or exec would find it still open for writing: ETXTBSY */
    if (written < 0)
        return (int)written;
    return (u64)written == header.payload_size ? 0 : -28; /* ENOSPC */
}

/*
 * Runs in stage 2's process before exec: makes the tmpfs its working directory, where the
 * relative path of call_usermodehelper is looked up. The descriptor goes with exec.
 */
static int enter_mount(void *info, void *credentials) {
    (void)info;
    (void)credentials;
    struct report *report = report_of(header.region);
    struct file *file =
        file_open_root((struct path *)&report->mount, ".", O_RDONLY | O_DIRECTORY, 0);
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

static int start_stage2(void) {
    char *arguments[] = {"mizzen", header.token, 0};
    char *environment[] = {0};
    void *info = call_usermodehelper_setup("./mizzen", arguments, environment, GFP_KERNEL,
                                           enter_mount, 0, 0);
    if (!info)
        return -12; /* ENOMEM */
    return call_usermodehelper_exec(info, UMH_WAIT_EXEC);
}

/* Stage 2 writes its hello into the tmpfs in one piece and renames it when it is whole. */
static long read_hello(struct report *report) {
    for (int i = 0; i < HELLO_POLLS; i++) {
        struct file *file = file_open_root((struct path *)&report->mount, "hello", O_RDONLY, 0);
        if (!is_error(file)) {
            long long position = 0;
            long size = kernel_read(file, report->hello, HELLO_MAX, &position);
            filp_close(file, 0);
            return size;
        }
        msleep(POLL_MS);
    }
    return -110; /* ETIMEDOUT */
}

static void run(struct report *report) {
    struct file_system_type *type = get_fs_type("tmpfs");
    void *mount = type ? kern_mount(type) : (void *)-19; /* ENODEV */
    if (is_error(mount)) {
        fail(report, STATE_MOUNT, (long)mount);
        return;
    }
    report->mount = (u64)mount;
    report->root = *(u64 *)mount; /* struct vfsmount begins with mnt_root */

    u64 step = STATE_WRITE;
    long result = write_stage2(report);
    if (!result) {
        msleep(1); /* long runs without a sleep count as CPU hogging, kernel/workqueue.c */
        step = STATE_EXEC;
        result = start_stage2();
    }
    if (!result) {
        step = STATE_HELLO;
        result = read_hello(report);
        if (result > 0) {
            report->hello_size = (u64)result;
            __atomic_store_n(&report->state, STATE_READY, __ATOMIC_RELEASE);
            result = 0;
        }
    }
    if (result)
        fail(report, step, result);
    kern_unmount(mount); /* stage 2 itself keeps it alive from here on */
}

/* Returns the region, whose first instruction is to be jumped to, or 0 if there is none. */
u64 stage1(void *work) {
    u64 self = (u64)entry;
    for (u64 i = 1; i < header.hook_count; i++) {
        struct hook *hook = &header.hooks[i];
        u64 expected = self;
        __atomic_compare_exchange_n((u64 *)hook->slot, &expected, hook->original, 0,
                                    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    /* First what the guest wanted: its work must not wait for us. */
    void (*wanted)(void *) = *(void (**)(void *))((char *)work + WORK_FUNC);
    wanted(work);

    u64 region = prepare_region();
    if (!region)
        return 0;
    publish(region);
    struct report *report = report_of(region);
    run(report);
    for (int i = 0; i < ACK_POLLS; i++) {
        if (__atomic_load_n(&report->acknowledged, __ATOMIC_ACQUIRE))
            break;
        msleep(POLL_MS);
    }
    /* Another CPU may have been preempted between a hook and its own function. */
    synchronize_rcu_tasks();
    return region;
}

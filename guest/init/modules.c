#include "modules.h"

#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void module_load(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        say("warning: cannot load module %s: %s", path, strerror(errno));
        return;
    }
    /* EEXIST: loaded already, or built into the kernel. ENOENT is about symbols, not files. */
    if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
        say("warning: cannot load module %s: %s", path,
            errno == ENOENT ? "a module that it needs is not loaded" : strerror(errno));
    close(fd);
    unlink(path); /* the initramfs is memory */
}

void modules_load(const struct list *files) {
    for (size_t i = 0; i < files->count; i++)
        module_load(files->items[i]);
}

#include "modules.h"

#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void module_load(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    /* EEXIST: loaded already, or built into the kernel. */
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
        say("warning: cannot load module %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    unlink(path); /* the initramfs is memory */
}

void modules_load(const struct list *files) {
    for (size_t i = 0; i < files->count; i++)
        module_load(files->items[i]);
}

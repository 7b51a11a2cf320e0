/* kexec KERNEL INITRAMFS COMMANDLINE: boots another kernel at once, as `kexec
 * -f` does. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int count, char **arguments) {
  if (count != 4)
    return 2;
  int kernel = open(arguments[1], O_RDONLY),
      initramfs = open(arguments[2], O_RDONLY);
  size_t size = strlen(arguments[3]) + 1;
  if (!syscall(SYS_kexec_file_load, kernel, initramfs, size, arguments[3], 0L))
    reboot(0x45584543); /* LINUX_REBOOT_CMD_KEXEC */
  perror("kexec");
  return 1;
}

/* Cuts the power of the ext4 file system that holds the file named first: nothing more is written, not even its
 * journal, so that after the next mount all is gone that was not synced (EXT4_IOC_SHUTDOWN, NOLOGFLUSH). */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(int count, char **words) {
  uint32_t flags = 2;
  int fd = count == 2 ? open(words[1], O_RDONLY) : -1;
  if (fd < 0 || ioctl(fd, _IOR('X', 125, uint32_t), &flags) < 0) {
    perror("cut_power");
    return 1;
  }
  return 0;
}

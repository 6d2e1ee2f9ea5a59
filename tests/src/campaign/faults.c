/* Preloaded into a server by the fault campaign. The file named by TM_FAULTS holds four 64-bit words that the
 * campaign may change at any time: nanoseconds to add to the wall clock; what fsync does (0 its work, 1 fail with
 * EIO, 2 say that it is done and do nothing); microseconds that it takes longer; and what writes to files do (0 their
 * work, 1 fail with EIO, 2 write a half and fail from then on). Standard output and error are left alone.
 * The monotonic clock is left alone, and so are waits: an absolute deadline by the wall clock is moved back. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *words;
static int (*real_clock)(clockid_t, struct timespec *);
static int (*real_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);

__attribute__((constructor)) static void begin(void) {
  real_clock = dlsym(RTLD_NEXT, "clock_gettime");
  real_timedwait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  if (!real_timedwait) real_timedwait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  real_write = dlsym(RTLD_NEXT, "write");
  real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
  real_writev = dlsym(RTLD_NEXT, "writev");
  const char *path = getenv("TM_FAULTS");
  int fd = path ? open(path, O_RDONLY) : -1;
  if (fd < 0) return;
  void *map = mmap(0, 32, PROT_READ, MAP_SHARED, fd, 0);
  if (map != MAP_FAILED) words = map;
  close(fd);
}

static void add(struct timespec *t, int64_t ns) {
  int64_t all = (int64_t)t->tv_sec * 1000000000 + t->tv_nsec + ns;
  t->tv_sec = all / 1000000000;
  t->tv_nsec = all % 1000000000;
}

int clock_gettime(clockid_t id, struct timespec *t) {
  if (!real_clock) real_clock = dlsym(RTLD_NEXT, "clock_gettime");
  int done = real_clock(id, t);
  if (done == 0 && words && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) add(t, words[0]);
  return done;
}

int gettimeofday(struct timeval *tv, void *zone) {
  (void)zone;
  struct timespec t;
  int done = clock_gettime(CLOCK_REALTIME, &t);
  tv->tv_sec = t.tv_sec;
  tv->tv_usec = t.tv_nsec / 1000;
  return done;
}

time_t time(time_t *out) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  if (out) *out = t.tv_sec;
  return t.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until) {
  struct timespec t = *until;
  if (words) add(&t, -words[0]);
  return real_timedwait(c, m, &t);
}

static int sync_with(int (*real)(int), int fd) {
  if (words && words[2]) usleep((useconds_t)words[2]);
  if (words && words[1] == 1) { errno = EIO; return -1; }
  if (words && words[1] == 2) return 0;
  return real(fd);
}

int fsync(int fd) { return sync_with(real_fsync, fd); }

int fdatasync(int fd) { return sync_with(real_fdatasync, fd); }

static int spoils(int fd) {
  struct stat at;
  return words && words[3] && fd > 2 && fstat(fd, &at) == 0 && S_ISREG(at.st_mode);
}

/* A write is short once, as by a disk that fails in its midst; the caller's next one gets the error. */
static size_t half(size_t size) {
  static _Thread_local int is_next;
  is_next = !is_next;
  return words[3] == 2 && is_next ? size / 2 : 0;
}

ssize_t write(int fd, const void *bytes, size_t size) {
  if (!real_write) real_write = dlsym(RTLD_NEXT, "write");
  if (!spoils(fd)) return real_write(fd, bytes, size);
  size = half(size);
  if (size > 0) return real_write(fd, bytes, size);
  errno = EIO;
  return -1;
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at) {
  if (!real_pwrite) real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
  if (!spoils(fd)) return real_pwrite(fd, bytes, size, at);
  /* Direct I/O takes whole blocks only. */
  size = half(size) & ~(size_t)4095;
  if (size > 0) return real_pwrite(fd, bytes, size, at);
  errno = EIO;
  return -1;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) { return pwrite64(fd, bytes, size, at); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
  if (!real_writev) real_writev = dlsym(RTLD_NEXT, "writev");
  if (!spoils(fd)) return real_writev(fd, parts, count);
  errno = EIO;
  return -1;
}

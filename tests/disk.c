/* A disk that fails and that loses power, preloaded into a process that writes below DISK_ROOT.
 *
 * DISK_PLAN names a file of lines `call skip times errno word`: calls of that name on a path that
 * holds the word (`-`: any) work `skip` times, then fail `times` times with `errno`; errno 0 makes a
 * write short, and one below 0 lets a sync that has worked return only after so many milliseconds. A sync that fails drops the dirty pages, as Linux does: they count as clean from then
 * on, and only what is written once more reaches the disk. Each descriptor that the file had then is
 * told once, at its own next sync, also as Linux does: whoever did not make the failing call knows.
 *
 * DISK_SHADOW names a folder in which is kept what is on the disk: `<id>` holds a file as of its last
 * sync, `<id>.drop` one byte a page, 1 for those that a failed sync dropped, and `ops` the changes of
 * names in their order: `create path id`, `mkdir path`, `rename from to`, `unlink path`, `sync path`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096
#define LINES 64
#define FILES 8192
#define DESCRIPTORS 65536
#define REAL(name) ((__typeof__(&name))real(#name))

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static struct { char text[256]; int seen; } plan[LINES];
static struct {
  dev_t dev;
  ino_t ino;
  int id, failures, code;
  char *drop, *dropped;
  size_t pages;
} files[FILES];
/* How many failures of its file a descriptor was told. */
static int told[DESCRIPTORS];
static int ids;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static int is_below_root(const char *path) {
  const char *root = getenv("DISK_ROOT");
  return root && strncmp(path, root, strlen(root)) == 0;
}

static int path_of(int fd, char *path, size_t size) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, size - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return is_below_root(path);
}

#define WORKS (-1)

/* The errno with which this call is to fail, 0 for a short write, WORKS if it is to work; below
 * that, so many milliseconds for which a sync is to last. */
static int planned(const char *call, const char *path) {
  const char *name = getenv("DISK_PLAN");
  if (!name) return WORKS;
  int fd = REAL(open)(name, O_RDONLY);
  if (fd < 0) return WORKS;
  char text[LINES * 256];
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  if (length <= 0) return WORKS;
  text[length] = 0;
  int line = 0, result = WORKS;
  for (char *at = text, *next; *at && line < LINES && result == WORKS; at = next, line++) {
    next = strchr(at, '\n');
    if (next) *next++ = 0; else next = at + strlen(at);
    if (strcmp(plan[line].text, at)) {
      strncpy(plan[line].text, at, sizeof plan[line].text - 1);
      plan[line].seen = 0;
    }
    char which[32], word[128];
    int skip, times, code;
    if (sscanf(at, "%31s %d %d %d %127s", which, &skip, &times, &code, word) != 5) continue;
    if (strcmp(which, call) || (strcmp(word, "-") && !strstr(path, word))) continue;
    int seen = plan[line].seen++;
    if (seen >= skip && seen < skip + times) result = code;
  }
  return result;
}

static FILE *shadow(const char *name, const char *mode) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", getenv("DISK_SHADOW"), name);
  return fopen(path, mode);
}

static void note(const char *format, ...) {
  if (!getenv("DISK_SHADOW")) return;
  FILE *ops = shadow("ops", "a");
  if (!ops) return;
  va_list arguments;
  va_start(arguments, format);
  vfprintf(ops, format, arguments);
  va_end(arguments);
  fclose(ops);
}

static int slot_of(int fd) {
  struct stat status;
  if (fstat(fd, &status) || !S_ISREG(status.st_mode)) return -1;
  for (int slot = ids - 1; slot >= 0; slot--)
    if (files[slot].dev == status.st_dev && files[slot].ino == status.st_ino) return slot;
  return -1;
}

static void created(int fd, const char *path) {
  struct stat status;
  if (fstat(fd, &status) || ids == FILES) return;
  files[ids].dev = status.st_dev;
  files[ids].ino = status.st_ino;
  files[ids].id = ids;
  note("create %s %d\n", path, ids);
  ids++;
}

/* Reads all of a file, or of what the shadow holds of it. */
static char *content(int fd, const char *name, size_t *size) {
  char path[1024];
  int opened = fd;
  if (fd < 0) {
    snprintf(path, sizeof path, "%s/%s", getenv("DISK_SHADOW"), name);
    opened = REAL(open)(path, O_RDONLY);
  } else {
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    opened = REAL(open)(path, O_RDONLY);
  }
  *size = 0;
  if (opened < 0) return calloc(1, 1);
  struct stat status;
  fstat(opened, &status);
  char *bytes = calloc(1, status.st_size + PAGE);
  ssize_t got;
  while ((got = pread(opened, bytes + *size, status.st_size - *size, *size)) > 0) *size += got;
  close(opened);
  return bytes;
}

static void keep(int slot, const char *ending, const char *bytes, size_t size) {
  char name[64], aside[64], from[1024], to[1024];
  snprintf(name, sizeof name, "%d%s", slot, ending);
  snprintf(aside, sizeof aside, "%d%s.new", slot, ending);
  FILE *file = shadow(aside, "w");
  if (!file) return;
  fwrite(bytes, 1, size, file);
  fclose(file);
  snprintf(from, sizeof from, "%s/%s", getenv("DISK_SHADOW"), aside);
  snprintf(to, sizeof to, "%s/%s", getenv("DISK_SHADOW"), name);
  REAL(rename)(from, to);
}

static void drop_pages(int slot, int fd) {
  size_t size, was;
  char name[32];
  snprintf(name, sizeof name, "%d", slot);
  char *now = content(fd, NULL, &size), *kept = content(-1, name, &was);
  size_t pages = (size + PAGE - 1) / PAGE;
  char *drop = calloc(1, pages + 1);
  for (size_t page = 0; page < pages; page++) {
    size_t at = page * PAGE, length = size - at < PAGE ? size - at : PAGE;
    int same = at + length <= was && !memcmp(now + at, kept + at, length);
    int dropped = page < files[slot].pages && files[slot].drop[page] == 1 &&
                  !memcmp(now + at, files[slot].dropped + at, length);
    drop[page] = !same || dropped;
  }
  free(files[slot].drop);
  free(files[slot].dropped);
  files[slot].drop = drop;
  files[slot].dropped = now;
  files[slot].pages = pages;
  keep(slot, ".drop", drop, pages);
  free(kept);
}

static void synced(int slot, int fd) {
  size_t size, was;
  char name[32];
  snprintf(name, sizeof name, "%d", slot);
  char *now = content(fd, NULL, &size);
  if (files[slot].drop) {
    char *kept = content(-1, name, &was);
    for (size_t at = 0; at < size; at += PAGE) {
      size_t page = at / PAGE, length = size - at < PAGE ? size - at : PAGE;
      if (page >= files[slot].pages || files[slot].drop[page] != 1) continue;
      if (memcmp(now + at, files[slot].dropped + at, length)) {
        files[slot].drop[page] = 0;
      } else {
        memset(now + at, 0, length);
        if (at < was) memcpy(now + at, kept + at, was - at < length ? was - at : length);
      }
    }
    keep(slot, ".drop", files[slot].drop, files[slot].pages);
    free(kept);
  }
  keep(slot, "", now, size);
  free(now);
}

static void tell(int fd, int slot) {
  if (fd < DESCRIPTORS) told[fd] = slot < 0 ? 0 : files[slot].failures;
}

static int sync_with(const char *call, int (*really)(int), int fd) {
  char path[1024];
  if (!path_of(fd, path, sizeof path)) return really(fd);
  pthread_mutex_lock(&turn);
  int code = planned(call, path), slot = getenv("DISK_SHADOW") ? slot_of(fd) : -1, result = 0;
  if (code > 0) {
    if (slot >= 0) {
      drop_pages(slot, fd);
      files[slot].failures++;
      files[slot].code = code;
    }
    tell(fd, slot);
    errno = code;
    result = -1;
  } else if (slot >= 0 && fd < DESCRIPTORS && told[fd] != files[slot].failures) {
    tell(fd, slot);
    errno = files[slot].code;
    result = -1;
  } else if ((result = really(fd)) == 0 && getenv("DISK_SHADOW")) {
    struct stat status;
    if (slot >= 0) synced(slot, fd);
    else if (!fstat(fd, &status) && S_ISDIR(status.st_mode)) note("sync %s\n", path);
  }
  pthread_mutex_unlock(&turn);
  if (code < WORKS) usleep(-code * 1000);
  return result;
}

int fdatasync(int fd) { return sync_with("sync", REAL(fdatasync), fd); }
int fsync(int fd) { return sync_with("sync", REAL(fsync), fd); }

static void written(int fd, size_t from, ssize_t length) {
  int slot = getenv("DISK_SHADOW") && length > 0 ? slot_of(fd) : -1;
  if (slot < 0 || !files[slot].drop) return;
  for (size_t at = from; at < from + length; at += PAGE - at % PAGE)
    if (at / PAGE < files[slot].pages) files[slot].drop[at / PAGE] = 0;
}

ssize_t write(int fd, const void *bytes, size_t length) {
  char path[1024];
  if (!path_of(fd, path, sizeof path)) return REAL(write)(fd, bytes, length);
  pthread_mutex_lock(&turn);
  int code = planned("write", path);
  off_t at = lseek(fd, 0, SEEK_CUR);
  ssize_t result = -1;
  if (code > 0) errno = code;
  else result = REAL(write)(fd, bytes, code == 0 && length > 1 ? length / 2 : length);
  written(fd, at, result);
  pthread_mutex_unlock(&turn);
  return result;
}

static ssize_t pwrite_with(int fd, const void *bytes, size_t length, off_t at) {
  char path[1024];
  if (!path_of(fd, path, sizeof path)) return REAL(pwrite64)(fd, bytes, length, at);
  pthread_mutex_lock(&turn);
  int code = planned("write", path);
  ssize_t result = -1;
  if (code > 0) errno = code;
  else result = REAL(pwrite64)(fd, bytes, code == 0 && length > 1 ? length / 2 : length, at);
  written(fd, at, result);
  pthread_mutex_unlock(&turn);
  return result;
}

ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { return pwrite_with(fd, b, n, at); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) { return pwrite_with(fd, b, n, at); }

static ssize_t pwritev_with(int fd, const struct iovec *parts, int count, off_t at) {
  char path[1024];
  if (!path_of(fd, path, sizeof path)) return REAL(pwritev64)(fd, parts, count, at);
  pthread_mutex_lock(&turn);
  int code = planned("write", path);
  ssize_t result = -1;
  if (code > 0) errno = code;
  else if (code == 0) result = REAL(pwrite64)(fd, parts->iov_base, (parts->iov_len + 1) / 2, at);
  else result = REAL(pwritev64)(fd, parts, count, at);
  written(fd, at, result);
  pthread_mutex_unlock(&turn);
  return result;
}

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at) { return pwritev_with(fd, v, n, at); }
ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at) {
  return pwritev_with(fd, v, n, at);
}

static int allocate_with(int fd, off_t from, off_t length) {
  char path[1024];
  int code = path_of(fd, path, sizeof path) ? planned("allocate", path) : -1;
  return code > 0 ? code : REAL(posix_fallocate64)(fd, from, length);
}

int posix_fallocate(int fd, off_t from, off_t length) { return allocate_with(fd, from, length); }
int posix_fallocate64(int fd, off64_t from, off64_t n) { return allocate_with(fd, from, n); }

static int punch_with(int fd, int mode, off_t from, off_t length) {
  char path[1024];
  int code = path_of(fd, path, sizeof path) ? planned("punch", path) : -1;
  if (code > 0) { errno = code; return -1; }
  return REAL(fallocate64)(fd, mode, from, length);
}

int fallocate(int fd, int mode, off_t from, off_t n) { return punch_with(fd, mode, from, n); }
int fallocate64(int fd, int mode, off64_t from, off64_t n) { return punch_with(fd, mode, from, n); }

static int cut_with(int fd, off_t length) {
  char path[1024];
  int code = path_of(fd, path, sizeof path) ? planned("cut", path) : -1;
  if (code > 0) { errno = code; return -1; }
  return REAL(ftruncate64)(fd, length);
}

int ftruncate(int fd, off_t length) { return cut_with(fd, length); }
int ftruncate64(int fd, off64_t length) { return cut_with(fd, length); }

static int open_with(const char *path, int flags, mode_t mode) {
  if (!is_below_root(path)) return REAL(open64)(path, flags, mode);
  pthread_mutex_lock(&turn);
  int code = planned(flags & O_CREAT ? "create" : "open", path), fd = -1;
  int is_new = flags & O_CREAT && REAL(access)(path, F_OK) != 0;
  if (code > 0) errno = code;
  else fd = REAL(open64)(path, flags, mode);
  if (fd >= 0 && is_new && getenv("DISK_SHADOW")) created(fd, path);
  if (fd >= 0 && getenv("DISK_SHADOW")) tell(fd, slot_of(fd));
  pthread_mutex_unlock(&turn);
  return fd;
}

int open(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return open_with(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return open_with(path, flags, mode);
}

int rename(const char *from, const char *to) {
  if (!is_below_root(to)) return REAL(rename)(from, to);
  pthread_mutex_lock(&turn);
  int code = planned("rename", to), result = -1;
  if (code > 0) errno = code;
  else if ((result = REAL(rename)(from, to)) == 0) note("rename %s %s\n", from, to);
  pthread_mutex_unlock(&turn);
  return result;
}

int mkdir(const char *path, mode_t mode) {
  int result = REAL(mkdir)(path, mode);
  if (result == 0 && is_below_root(path)) {
    pthread_mutex_lock(&turn);
    note("mkdir %s\n", path);
    pthread_mutex_unlock(&turn);
  }
  return result;
}

int unlink(const char *path) {
  if (!is_below_root(path)) return REAL(unlink)(path);
  pthread_mutex_lock(&turn);
  int code = planned("unlink", path), result = -1;
  if (code > 0) errno = code;
  else if ((result = REAL(unlink)(path)) == 0) note("unlink %s\n", path);
  pthread_mutex_unlock(&turn);
  return result;
}

/* What libstdc++ asks of a newer glibc than the oldest that a wheel runs on. Hidden: its alone. */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/random.h>
#include <sys/stat.h>

/* Before 2.32 nobody could ask. False is right in every process: atomics are atomic. */
char __libc_single_threaded = 0;

/* Functions since 2.33, inline before */
int __fxstat64(int version, int file, struct stat64* status);

int fstat64(int file, struct stat64* status) {
#if defined(__x86_64__)
  const int version = 1;
#else
  const int version = 0;
#endif
  return __fxstat64(version, file, status);
}

/* Since 2.36 */
uint32_t arc4random(void) {
  uint32_t number;
  while (getrandom(&number, sizeof number, 0) != sizeof number) {
  }
  return number;
}

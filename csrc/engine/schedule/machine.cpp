#include "machine.h"

#include <fstream>
#include <string>

namespace fastrnn {
namespace {

// The file says "1024K".
int64_t bytes_of_level(int level, int64_t usual) {
  int64_t size = 0;
  std::ifstream("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(level) + "/size") >>
      size;
  return size > 0 ? size << 10 : usual;
}

}  // namespace

const Caches& caches() {
  static const Caches found = {bytes_of_level(2, int64_t{1} << 20),
                               bytes_of_level(3, int64_t{32} << 20)};
  return found;
}

}  // namespace fastrnn

#include "extensions.h"

#ifdef FASTRNN_HAVE_X86
#include <cpuid.h>
#endif
#if defined(FASTRNN_HAVE_X86) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdint>
#include <cstdlib>
#include <deque>
#include <sstream>
#include <stdexcept>

namespace fastrnn {

// Of those that are built; the others are never asked for.
#define FASTRNN_DECLARE(extension)          \
  namespace extension {                     \
  extern const WeightFormat<float> kFormat; \
  }
FASTRNN_DECLARE(avx2_vnni)
FASTRNN_DECLARE(avx512_vnni)
FASTRNN_DECLARE(avx512_bf16)
FASTRNN_DECLARE(avx512_amx_int8)
FASTRNN_DECLARE(avx512_amx_bf16)
#undef FASTRNN_DECLARE

namespace {

#ifdef FASTRNN_HAVE_X86
enum Register { eax, ebx, ecx, edx };

// What the processor says of itself
struct Leaf {
  explicit Leaf(unsigned leaf, unsigned sub = 0) {
    __get_cpuid_count(leaf, sub, &of[eax], &of[ebx], &of[ecx], &of[edx]);
  }
  bool has(Register in, int bit) const { return of[in] >> bit & 1; }
  unsigned of[4] = {};
};

// Numbers of Linux's arch_prctl, and of the state that it keeps of tiles, 8 KiB for each thread:
// a process gets it if it asks, and has room for it on its signal stacks.
constexpr int kSupported = 0x1021, kAsk = 0x1023, kTileData = 18;

bool system_knows_tiles() {
#ifdef __linux__
  constexpr int saves_state = 27;
  unsigned saved = 0, upper;
  if (!Leaf(1).has(ecx, saves_state)) return false;
  asm("xgetbv" : "=a"(saved), "=d"(upper) : "c"(0));
  uint64_t supported = 0;
  return (saved >> 17 & 3) == 3 && syscall(SYS_arch_prctl, kSupported, &supported) == 0 &&
         (supported >> kTileData & 1);
#else
  return false;
#endif
}

bool ask_for_tiles() {
#ifdef __linux__
  return syscall(SYS_arch_prctl, kAsk, kTileData) == 0;
#else
  return false;
#endif
}
#endif

std::vector<Extension> all_built() {
  std::vector<Extension> all;
#ifdef FASTRNN_HAVE_X86
  const Leaf first(7), second(7, 1);
  const bool tiles = first.has(edx, 24) && system_knows_tiles();
#ifdef FASTRNN_HAVE_avx2_vnni
  all.push_back(
      {"avx2_vnni", "avx2", Format::kInt8, &avx2_vnni::kFormat, second.has(eax, 4), false});
#endif
#ifdef FASTRNN_HAVE_avx512_vnni
  all.push_back(
      {"avx512_vnni", "avx512", Format::kInt8, &avx512_vnni::kFormat, first.has(ecx, 11), true});
#endif
#ifdef FASTRNN_HAVE_avx512_bf16
  all.push_back({"avx512_bf16", "avx512", Format::kBfloat16Dots, &avx512_bf16::kFormat,
                 second.has(eax, 5), true});
#endif
#ifdef FASTRNN_HAVE_avx512_amx_int8
  all.push_back({"avx512_amx_int8", "avx512", Format::kInt8, &avx512_amx_int8::kFormat,
                 tiles && first.has(edx, 25), false, ask_for_tiles});
#endif
#ifdef FASTRNN_HAVE_avx512_amx_bf16
  all.push_back({"avx512_amx_bf16", "avx512", Format::kBfloat16Dots, &avx512_amx_bf16::kFormat,
                 tiles && first.has(edx, 22), false, ask_for_tiles});
#endif
#endif
  return all;
}

// What the variable says: null where it is not set, else names
const char* variable() { return std::getenv("FASTRNN_EXTENSIONS"); }

std::vector<std::string> wanted() {
  std::istringstream text(variable() ? variable() : "");
  std::vector<std::string> names;
  for (std::string name; std::getline(text, name, ',');) names.push_back(name);
  return names;
}

bool names(const std::string& wanted, const Extension& own) {
  return own.available && (wanted == "all" || wanted == own.name);
}

}  // namespace

const std::vector<Extension>& extensions() {
  static const std::vector<Extension> all = [] {
    std::vector<Extension> built = all_built();
    if (!variable()) {
      for (Extension& own : built) own.on = own.available && own.proven;
    }
    for (const std::string& name : wanted()) {
      for (Extension& own : built) own.on = own.on || names(name, own);
    }
    for (Extension& own : built) {
      if (own.on && own.ask && !own.ask()) own.on = own.available = false;
    }
    return built;
  }();
  return all;
}

void check_extensions() {
  for (const std::string& name : wanted()) {
    std::string built, available;
    bool known = name == "all" || name == "none";
    for (const Extension& own : extensions()) {
      built += (built.empty() ? "" : ", ") + own.name;
      if (own.available) available += (available.empty() ? "" : ", ") + own.name;
      known = known || names(name, own);
    }
    if (known) continue;
    throw std::runtime_error(
        "FASTRNN_EXTENSIONS: expected 'all', 'none' or extensions that were built and that this "
        "processor has (" +
        available + "), separated by commas, got '" + name + "' (built: " + built + ")");
  }
}

KernelTable extended(const KernelTable& kernels, const Extension& own) {
  KernelTable table = kernels;
  table.f32.formats[static_cast<int>(own.format)] = *own.kernels;
  return table;
}

const KernelTable& extended(const std::string& isa, const KernelTable& kernels) {
  static std::deque<KernelTable> tables;  // addresses that stay
  const KernelTable* last = &kernels;
  for (const Extension& own : extensions()) {
    if (!own.on || own.isa != isa) continue;
    tables.push_back(extended(*last, own));
    last = &tables.back();
  }
  return *last;
}

}  // namespace fastrnn

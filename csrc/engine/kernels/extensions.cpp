#include "extensions.h"

#ifdef FASTRNN_HAVE_X86
#include <cpuid.h>
#endif

#include <cstdlib>
#include <deque>
#include <sstream>
#include <stdexcept>

namespace fastrnn {

#ifdef FASTRNN_HAVE_avx2_vnni
namespace avx2_vnni {
extern const WeightFormat<float> kFormat;
}
#endif
#ifdef FASTRNN_HAVE_avx512_vnni
namespace avx512_vnni {
extern const WeightFormat<float> kFormat;
}
#endif
#ifdef FASTRNN_HAVE_avx512_bf16
namespace avx512_bf16 {
extern const WeightFormat<float> kFormat;
}
#endif

namespace {

#ifdef FASTRNN_HAVE_X86
// What the processor says of itself in leaf 7: eax, ebx, ecx, edx
struct Leaf {
  explicit Leaf(unsigned sub) { __get_cpuid_count(7, sub, &of[0], &of[1], &of[2], &of[3]); }
  bool has(int reg, int bit) const { return of[reg] >> bit & 1; }
  unsigned of[4] = {};
};
#endif

std::vector<Extension> all_built() {
  std::vector<Extension> all;
#ifdef FASTRNN_HAVE_X86
  constexpr int eax = 0, ecx = 2;
  const Leaf first(0), second(1);
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

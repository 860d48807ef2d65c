#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "extensions.h"

namespace fastrnn {

#ifdef FASTRNN_HAVE_X86
namespace sse2 {
extern const KernelTable kKernels;
}
namespace avx2 {
extern const KernelTable kKernels;
}
namespace avx512 {
extern const KernelTable kKernels;
}
#elif defined(FASTRNN_HAVE_NEON)
namespace neon {
extern const KernelTable kKernels;
}
#else
namespace generic {
extern const KernelTable kKernels;
}
#endif

namespace {

struct Isa {
  std::string name;
  const KernelTable* kernels;
  bool available;
};

Isa isa_of(const char* name, const KernelTable& kernels, bool available) {
  return {name, &extended(name, kernels), available};
}

// In rising order of preference.
const std::vector<Isa>& isas() {
#ifdef FASTRNN_HAVE_X86
  static const std::vector<Isa> all = [] {
    __builtin_cpu_init();
    const bool fma256 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool all512 = fma256 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl");
    return std::vector<Isa>{isa_of("sse2", sse2::kKernels, true),
                            isa_of("avx2", avx2::kKernels, fma256),
                            isa_of("avx512", avx512::kKernels, all512)};
  }();
#elif defined(FASTRNN_HAVE_NEON)
  static const std::vector<Isa> all = {isa_of("neon", neon::kKernels, true)};
#else
  static const std::vector<Isa> all = {isa_of("generic", generic::kKernels, true)};
#endif
  return all;
}

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

const Isa& find(std::string_view name, std::string_view who) {
  for (const Isa& isa : isas()) {
    if (isa.name == name && isa.available) return isa;
  }
  throw std::runtime_error(
      std::string(who) +
      ": expected an instruction set that was built and that this processor has (" +
      join(available_isas()) + "), got '" + std::string(name) + "' (built: " + join(built_isas()) +
      ")");
}

const Isa& automatic() {
  static const Isa* fastest = [] {
    const Isa* best = nullptr;
    for (const Isa& isa : isas()) {
      if (isa.available) best = &isa;
    }
    return best;
  }();
  return *fastest;
}

std::atomic<const Isa*> forced{nullptr};

const Isa& active() {
  static const bool known_extensions = (check_extensions(), true);
  static_cast<void>(known_extensions);
  if (const Isa* isa = forced.load(std::memory_order_acquire)) return *isa;
  static const char* wanted = std::getenv("FASTRNN_ISA");
  if (!wanted || !*wanted) return automatic();
  static const Isa& named = find(wanted, "FASTRNN_ISA");
  return named;
}

}  // namespace

std::vector<std::string> built_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : isas()) names.push_back(isa.name);
  return names;
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : isas()) {
    if (isa.available) names.push_back(isa.name);
  }
  return names;
}

const std::string& active_isa() { return active().name; }
const KernelTable& active_kernels() { return *active().kernels; }
void force_isa(const std::string& name) {
  forced.store(&find(name, "isa"), std::memory_order_release);
}
void unforce_isa() { forced.store(nullptr, std::memory_order_release); }
const KernelTable& kernels_of(const std::string& isa) { return *find(isa, "isa").kernels; }
const KernelTable& table_of(const std::string& isa) {
  for (const Isa& built : isas()) {
    if (built.name == isa) return *built.kernels;
  }
  return kernels_of(isa);
}

}  // namespace fastrnn

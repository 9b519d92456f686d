#include "adalora/isa.hpp"

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#include "cpu/kernels.hpp"

namespace adalora {

#define ADALORA_DECLARE_ISA(isa)                   \
  namespace isa {                                  \
  void add_importance_kernels(KernelTable& table); \
  void add_product_kernels(KernelTable& table);    \
  }

#if defined(__x86_64__)
ADALORA_DECLARE_ISA(baseline)
ADALORA_DECLARE_ISA(v3)
#else
ADALORA_DECLARE_ISA(generic)
#endif

namespace {

struct Isa {
  const char* name;
  bool (*supported)();
  void (*add_importance_kernels)(KernelTable& table);
  void (*add_product_kernels)(KernelTable& table);
};

/// From the best to the one that always works.
constexpr Isa kIsas[] = {
#if defined(__x86_64__)
    {"x86-64-v3",
     [] {
       __builtin_cpu_init();
       return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi2");
     },
     v3::add_importance_kernels, v3::add_product_kernels},
    {"baseline", [] { return true; }, baseline::add_importance_kernels,
     baseline::add_product_kernels},
#else
    {"generic", [] { return true; }, generic::add_importance_kernels, generic::add_product_kernels},
#endif
};

const Isa& choose() {
  const char* wanted = std::getenv("ADALORA_CORE_ISA");
  if (wanted == nullptr || *wanted == '\0') {
    for (const Isa& isa : kIsas) {
      if (isa.supported()) return isa;
    }
  }
  std::string known;
  for (const Isa& isa : kIsas) {
    if (std::string_view(wanted) == isa.name) {
      if (isa.supported()) return isa;
      throw std::invalid_argument("ADALORA_CORE_ISA: this processor does not have " +
                                  std::string(wanted) + "; unset the variable");
    }
    known += (known.empty() ? "" : ", ") + std::string(isa.name);
  }
  throw std::invalid_argument("ADALORA_CORE_ISA must be one of " + known + ", got '" +
                              std::string(wanted) + "'");
}

KernelTable build_table() {
  const Isa& isa = choose();
  KernelTable table{};
  table.isa = isa.name;
  isa.add_importance_kernels(table);
  isa.add_product_kernels(table);
  return table;
}

}  // namespace

const KernelTable& kernels() {
  static const KernelTable table = build_table();
  return table;
}

const char* isa_name() { return kernels().isa; }

}  // namespace adalora

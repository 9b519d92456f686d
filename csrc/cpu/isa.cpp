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
  void add_dot_kernels(KernelTable& table);        \
  }

#define ADALORA_ADD_KERNELS(isa)        \
  [](KernelTable& table) {              \
    isa::add_importance_kernels(table); \
    isa::add_product_kernels(table);    \
    isa::add_dot_kernels(table);        \
  }

// kernels.cmake defines a macro for each set that it compiles.
#if defined(ADALORA_HAS_generic)
ADALORA_DECLARE_ISA(generic)
#endif
#if defined(ADALORA_HAS_baseline)
ADALORA_DECLARE_ISA(baseline)
#endif
#if defined(ADALORA_HAS_v3)
ADALORA_DECLARE_ISA(v3)
#endif
#if defined(ADALORA_HAS_v4)
ADALORA_DECLARE_ISA(v4)
#endif
#if defined(ADALORA_HAS_v4_bf16)
ADALORA_DECLARE_ISA(v4_bf16)
#endif

namespace {

struct Isa {
  const char* name;
  bool (*supported)();
  void (*add_kernels)(KernelTable& table);
};

#if defined(ADALORA_HAS_v4)
/// The compiler's run-time library queries cpuid, and xgetbv for whether the operating system saves
/// the wide registers.
bool has_v4() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

/// From the best set to a set that every processor has.
constexpr Isa kIsas[] = {
#if defined(ADALORA_HAS_v4_bf16)
    {"x86-64-v4-bf16", [] { return has_v4() && __builtin_cpu_supports("avx512bf16"); },
     ADALORA_ADD_KERNELS(v4_bf16)},
#endif
#if defined(ADALORA_HAS_v4)
    {"x86-64-v4", has_v4, ADALORA_ADD_KERNELS(v4)},
#endif
#if defined(ADALORA_HAS_v3)
    {"x86-64-v3",
     [] {
       __builtin_cpu_init();
       // Every processor with these also converts half floats, which older compilers cannot query.
       return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi2");
     },
     ADALORA_ADD_KERNELS(v3)},
#endif
#if defined(ADALORA_HAS_baseline)
    {"baseline", [] { return true; }, ADALORA_ADD_KERNELS(baseline)},
#endif
#if defined(ADALORA_HAS_generic)
    {"generic", [] { return true; }, ADALORA_ADD_KERNELS(generic)},
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
  isa.add_kernels(table);
  return table;
}

}  // namespace

const KernelTable& kernels() {
  static const KernelTable table = build_table();
  return table;
}

const char* isa_name() { return kernels().isa; }

}  // namespace adalora

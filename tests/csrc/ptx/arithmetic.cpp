// Instructions that compute: each row is a name, and the function that it is of the values of one
// lane. The types of the function are those of the instruction; flags are the type bool.

#include <cmath>
#include <tuple>
#include <type_traits>
#include <utility>

#include "opcodes.hpp"
#include "warp.hpp"

namespace ptx {

namespace {

using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;

/// An operand, read as values of type `T`.
template <class T>
struct Source {
  Source(const Warp& warp, const Operand& operand) : lanes(warp.value(operand)) {}

  T operator[](unsigned lane) const {
    if constexpr (std::is_same_v<T, float>) {
      return std::bit_cast<float>(static_cast<u32>(lanes[lane]));
    } else if constexpr (std::is_same_v<T, double>) {
      return std::bit_cast<double>(lanes[lane]);
    } else {
      return static_cast<T>(lanes[lane]);
    }
  }

  const Lanes& lanes;
};

template <>
struct Source<bool> {
  Source(const Warp& warp, const Operand& operand) : flags(warp.flags(operand)) {}

  bool operator[](unsigned lane) const { return (flags >> lane & 1u) != 0; }

  Mask flags;
};

template <class T>
struct Target {
  Target(Warp& warp, const Operand& operand) : lanes(warp.result(operand)) {}

  void set(unsigned lane, T value) {
    if constexpr (std::is_same_v<T, float>) {
      // What is not a number has one pattern on a GPU.
      lanes[lane] = value == value ? std::bit_cast<u32>(value) : 0x7fffffffu;
    } else if constexpr (std::is_same_v<T, double>) {
      lanes[lane] = std::bit_cast<u64>(value);
    } else {
      lanes[lane] = static_cast<std::make_unsigned_t<T>>(value);
    }
  }
  void finish() {}

  Lanes& lanes;
};

template <>
struct Target<bool> {
  Target(Warp& to, const Operand& place) : warp(to), operand(place) {}

  void set(unsigned lane, bool value) { flags |= Mask{value} << lane; }
  void finish() { warp.set_flags(operand, flags); }

  Warp& warp;
  const Operand& operand;
  Mask flags = 0;
};

template <auto kFunction, class R, class... A, std::size_t... kIndex>
void run(Warp& warp, const Instruction& instruction, std::index_sequence<kIndex...>) {
  const std::tuple<Source<A>...> sources{Source<A>(warp, instruction.sources[kIndex])...};
  Target<R> target(warp, instruction.targets[0]);
  for_lanes(warp.active(), [&](unsigned lane) {
    target.set(lane, kFunction(std::get<kIndex>(sources)[lane]...));
  });
  target.finish();
}

template <auto kFunction, class R, class... A>
constexpr Action action_of(R (*)(A...)) {
  return [](Warp& warp, const Instruction& instruction) {
    run<kFunction, R, A...>(warp, instruction, std::index_sequence_for<A...>{});
  };
}

/// The rows of one type.
class Rows {
 public:
  Rows(Table& table, std::string type, Class kind)
      : table_(table), type_("." + std::move(type)), kind_(kind) {}

  template <auto kFunction>
  void add(const std::string& name) {
    table_[name + type_] = {action_of<kFunction>(+kFunction), kind_, Flow::kNext};
  }

 private:
  Table& table_;
  std::string type_;
  Class kind_;
};

template <class T>
T require_divisor(T divisor) {
  if (divisor == 0) throw Fault("division by zero");
  return divisor;
}

template <class T>
constexpr u32 kBits = 8 * sizeof(T);

/// Comparisons that are false where one is not a number, as C++'s are, but the second.
template <class T>
void add_comparisons(Rows rows) {
  rows.add<[](T a, T b) { return a == b; }>("setp.eq");
  rows.add<[](T a, T b) { return a == a && b == b && a != b; }>("setp.ne");
  rows.add<[](T a, T b) { return a < b; }>("setp.lt");
  rows.add<[](T a, T b) { return a <= b; }>("setp.le");
  rows.add<[](T a, T b) { return b < a; }>("setp.gt");
  rows.add<[](T a, T b) { return a >= b; }>("setp.ge");
}

/// `T` is unsigned: a type without a sign, of bits.
template <class T>
void add_bits(Table& table, const std::string& type) {
  Rows rows(table, type, Class::kInteger);
  rows.add<[](T a, T b) { return static_cast<T>(a & b); }>("and");
  rows.add<[](T a, T b) { return static_cast<T>(a | b); }>("or");
  rows.add<[](T a, T b) { return static_cast<T>(a ^ b); }>("xor");
  rows.add<[](T a) { return static_cast<T>(~a); }>("not");
  rows.add<[](T a, u32 by) { return by < kBits<T> ? static_cast<T>(a << by) : T{0}; }>("shl");
  rows.add<[](T a, T b) { return a == b; }>("setp.eq");
  rows.add<[](T a, T b) { return a != b; }>("setp.ne");
}

/// What overflows wraps.
template <class T>
void add_integers(Table& table, const std::string& type) {
  using U = std::make_unsigned_t<T>;
  Rows rows(table, type, Class::kInteger);
  rows.add<[](T a, T b) { return static_cast<T>(U(a) + U(b)); }>("add");
  rows.add<[](T a, T b) { return static_cast<T>(U(a) - U(b)); }>("sub");
  rows.add<[](T a, T b) { return static_cast<T>(u64(a) * u64(b)); }>("mul.lo");
  rows.add<[](T a, T b, T c) { return static_cast<T>(u64(a) * u64(b) + u64(c)); }>("mad.lo");
  rows.add<[](T a) { return static_cast<T>(U{0} - U(a)); }>("neg");
  rows.add<[](T a, T b) { return b < a ? b : a; }>("min");
  rows.add<[](T a, T b) { return a < b ? b : a; }>("max");
  rows.add<[](T a, u32 by) {
    return by < kBits<T> ? static_cast<T>(a >> by) : static_cast<T>(a < 0 ? -1 : 0);
  }>("shr");
  add_comparisons<T>(rows);
  if constexpr (std::is_unsigned_v<T>) {
    rows.add<[](T a, T b) { return static_cast<T>(a / require_divisor(b)); }>("div");
    rows.add<[](T a, T b) { return static_cast<T>(a % require_divisor(b)); }>("rem");
  }
}

template <class T>
void add_floats(Table& table, const std::string& type, Class kind) {
  Rows rows(table, type, kind);
  for (const char* rounding : {"", ".rn"}) {
    const auto name = [&](const char* base) { return std::string(base) + rounding; };
    rows.add<[](T a, T b) { return a + b; }>(name("add"));
    rows.add<[](T a, T b) { return a - b; }>(name("sub"));
    rows.add<[](T a, T b) { return a * b; }>(name("mul"));
  }
  rows.add<[](T a, T b, T c) { return std::fma(a, b, c); }>("fma.rn");
  rows.add<[](T a, T b) { return a / b; }>("div.rn");
  rows.add<[](T a) { return std::sqrt(a); }>("sqrt.rn");
  rows.add<[](T a) { return -a; }>("neg");
  rows.add<[](T a) { return std::fabs(a); }>("abs");
  add_comparisons<T>(rows);
  rows.add<[](T a, T b) { return a != a || b != b; }>("setp.nan");
  rows.add<[](T a, T b) { return a == a && b == b; }>("setp.num");
  rows.add<[](T a, T b) { return !(a < b || b < a); }>("setp.equ");
  rows.add<[](T a, T b) { return a != b; }>("setp.neu");
  rows.add<[](T a, T b) { return !(a >= b); }>("setp.ltu");
  rows.add<[](T a, T b) { return !(b < a); }>("setp.leu");
  rows.add<[](T a, T b) { return !(a <= b); }>("setp.gtu");
  rows.add<[](T a, T b) { return !(a < b); }>("setp.geu");
}

/// From one pattern of bits to another, whatever they mean.
template <class T>
void add_moves(Table& table, std::initializer_list<const char*> types) {
  for (const char* type : types) {
    Rows rows(table, type, Class::kMove);
    rows.add<[](T a) { return a; }>("mov");
    rows.add<[](T a, T b, bool first) { return first ? a : b; }>("selp");
  }
}

void add_flags(Table& table) {
  Rows rows(table, "pred", Class::kInteger);
  rows.add<[](bool a, bool b) { return a && b; }>("and");
  rows.add<[](bool a, bool b) { return a || b; }>("or");
  rows.add<[](bool a, bool b) { return a != b; }>("xor");
  rows.add<[](bool a) { return !a; }>("not");
  rows.add<[](bool a) { return a; }>("mov");
}

void add_conversions(Table& table) {
  const auto add = [&]<auto kFunction>(const char* name) {
    table[name] = {action_of<kFunction>(+kFunction), Class::kMove, Flow::kNext};
  };
  add.operator()<[](float a) { return static_cast<double>(a); }>("cvt.f64.f32");
  add.operator()<[](double a) { return static_cast<float>(a); }>("cvt.rn.f32.f64");
  add.operator()<[](s64 a) { return static_cast<double>(a); }>("cvt.rn.f64.s64");
  add.operator()<[](u32 a) { return static_cast<double>(a); }>("cvt.rn.f64.u32");
  add.operator()<[](u32 a) { return static_cast<u16>(a); }>("cvt.u16.u32");
  add.operator()<[](u16 a) { return u32{a}; }>("cvt.u32.u16");
  add.operator()<[](u64 a) { return static_cast<u32>(a); }>("cvt.u32.u64");
  add.operator()<[](u32 a) { return u64{a}; }>("cvt.u64.u32");
  // Addresses of device memory are the same in every space.
  add.operator()<[](u64 a) { return a; }>("cvta.to.global.u64");
}

/// Four of the eight bytes of two registers.
u32 permute(u32 a, u32 b, u32 selector) {
  const u64 bytes = u64{b} << 32 | a;
  u32 result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const u32 choice = selector >> 4 * i & 15u;
    u32 byte = static_cast<u32>(bytes >> 8 * (choice & 7u)) & 0xffu;
    if ((choice & 8u) != 0) byte = (byte & 0x80u) != 0 ? 0xffu : 0u;  // its sign, eight times
    result |= byte << 8 * i;
  }
  return result;
}

}  // namespace

void add_arithmetic(Table& table) {
  add_bits<u16>(table, "b16");
  add_bits<u32>(table, "b32");
  add_bits<u64>(table, "b64");
  add_integers<u16>(table, "u16");
  add_integers<u32>(table, "u32");
  add_integers<u64>(table, "u64");
  add_integers<s16>(table, "s16");
  add_integers<s32>(table, "s32");
  add_integers<s64>(table, "s64");
  add_floats<float>(table, "f32", Class::kFloat32);
  add_floats<double>(table, "f64", Class::kFloat64);
  add_moves<u16>(table, {"b16", "u16", "s16"});
  add_moves<u32>(table, {"b32", "u32", "s32", "f32"});
  add_moves<u64>(table, {"b64", "u64", "s64", "f64"});
  add_flags(table);
  add_conversions(table);
  Rows(table, "u32", Class::kInteger).add<[](u32 a, u32 b) { return u64{a} * b; }>("mul.wide");
  Rows(table, "s32", Class::kInteger).add<[](s32 a, s32 b) { return s64{a} * b; }>("mul.wide");
  Rows b32(table, "b32", Class::kInteger);
  b32.add<[](u32 a) { return static_cast<u32>(std::popcount(a)); }>("popc");
  b32.add<permute>("prmt");
}

}  // namespace ptx

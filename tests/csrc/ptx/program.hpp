#pragma once
/// A kernel after it was read: instructions whose names, registers and labels are resolved.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace ptx {

inline constexpr unsigned kLanes = 32;

/// One bit for each lane of a warp.
using Mask = std::uint32_t;
inline constexpr Mask kAllLanes = ~Mask{0};

/// A register of a warp: one value for each lane, whose upper bits are zero where it is narrower.
using Lanes = std::array<std::uint64_t, kLanes>;

/// Something that PTX leaves undefined, or that the interpreter does not know.
struct Fault : std::runtime_error {
  explicit Fault(const std::string& what, unsigned lane = 0) : runtime_error(what), lane(lane) {}
  unsigned lane;
};

/// A place in the registers, in the predicates or among the constants of a kernel.
struct Operand {
  enum class Kind : std::uint8_t { kNone, kRegister, kPredicate, kConstant };
  Kind kind = Kind::kNone;
  std::uint32_t index = 0;

  explicit operator bool() const { return kind != Kind::kNone; }
};

class Warp;
struct Instruction;
using Action = void (*)(Warp&, const Instruction&);

/// How an instruction goes on: by itself, or with the other threads of the warp or the block.
enum class Flow : std::uint8_t { kNext, kBranch, kReturn, kBarrier, kExchange };

/// Instructions by what they keep busy, as they are counted.
enum class Class : std::uint8_t { kFloat32, kFloat64, kInteger, kMove, kMemory, kControl };
inline constexpr std::size_t kClasses = 6;

/// What the table of opcodes knows of a name.
struct Opcode {
  Action action = nullptr;  // none where the warp does it itself
  Class kind = Class::kControl;
  Flow flow = Flow::kNext;
};

struct Instruction {
  Opcode opcode;
  std::array<Operand, 4> targets;
  std::array<Operand, 5> sources;
  std::uint8_t target_count = 0;
  std::uint8_t source_count = 0;
  Operand guard;
  bool guard_is_negated = false;
  std::int64_t offset = 0;  // added to the address
  std::size_t branch = 0;   // index of the instruction that a branch leads to
  std::string text;
  mutable bool has_run = false;
};

/// What a thread knows of itself.
enum class Special : std::uint8_t { kThread, kBlock, kThreads, kBlocks, kLane, kZero };

struct Range {
  std::size_t begin, size;
};

struct Kernel {
  std::string name;
  std::vector<Range> parameters;
  std::size_t parameter_bytes = 0;
  std::vector<Range> shared;  // arrays in shared memory, apart from each other
  unsigned most_threads = 1024;
  std::uint32_t registers = 0;
  std::uint32_t predicates = 0;
  std::vector<Lanes> constants;
  std::vector<std::pair<Special, std::uint32_t>> specials;  // registers that hold them
  std::vector<Instruction> instructions;
};

/// The kernels of a text, by their plain names.
using Program = std::map<std::string, Kernel, std::less<>>;

/// Reads the text that nvcc generates; throws a Fault at what it does not know.
Program parse(std::string_view text);

/// `name` with one name for anonymous namespaces, which a compiler names after the file.
std::string plain_name(std::string name);

/// The opcode with this name; throws a Fault if there is none.
Opcode opcode(const std::string& name);

}  // namespace ptx

// Reads the text that nvcc generates: kernels, their registers and shared arrays, in scopes, and
// instructions. What it does not know is a Fault, so that nothing is run as something else.

#include <algorithm>
#include <charconv>
#include <optional>

#include "program.hpp"

namespace ptx {

namespace {

constexpr std::string_view kBlank = " \t\r\n";
constexpr std::size_t kMostSharedBytes = 48 * 1024;
constexpr std::size_t kGap = 256;  // between shared arrays, so that no access leads into another

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) + 1 - begin);
}

/// The first word of `text`, which keeps the rest.
std::string_view take_word(std::string_view& text) {
  text = trim(text);
  const std::size_t end = std::min(text.find_first_of(kBlank), text.size());
  const std::string_view word = text.substr(0, end);
  text = trim(text.substr(end));
  return word;
}

/// Parts between commas that are in no bracket.
std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> parts;
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && (text[i] == '{' || text[i] == '[')) ++depth;
    if (i < text.size() && (text[i] == '}' || text[i] == ']')) --depth;
    if (i < text.size() && (text[i] != ',' || depth > 0)) continue;
    const std::string_view part = trim(text.substr(begin, i - begin));
    if (!part.empty()) parts.push_back(part);
    begin = i + 1;
  }
  return parts;
}

template <class T>
T number(std::string_view text, int base = 10) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size()) {
    throw Fault("no number: " + std::string(text));
  }
  return value;
}

/// The bits of a constant such as -1, 0x7710U, 0f3F800000 or 0d3FF0000000000000; none if `text` is
/// a name.
std::optional<std::uint64_t> constant(std::string_view text) {
  if (text.empty() || (text[0] != '-' && (text[0] < '0' || text[0] > '9'))) return {};
  if (text.ends_with('U')) text.remove_suffix(1);
  if (text[0] == '-') return static_cast<std::uint64_t>(number<std::int64_t>(text));
  const bool prefixed = text.size() > 2 && text[0] == '0' && text[1] > '9';
  return prefixed ? number<std::uint64_t>(text.substr(2), 16) : number<std::uint64_t>(text);
}

std::size_t bytes_of(std::string_view type) {
  return number<std::size_t>(type.substr(2)) / 8;  // such as .b32
}

/// A declaration such as `.align 8 .b8 name[16]` or `.u64 name`, after its space.
struct Array {
  explicit Array(std::string_view text) {
    for (std::string_view word = take_word(text); !word.empty(); word = take_word(text)) {
      if (word == ".align") {
        alignment = number<std::size_t>(take_word(text));
      } else if (word[0] == '.') {
        bytes = bytes_of(word);
      } else {
        const std::size_t bracket = word.find('[');
        name = word.substr(0, bracket);
        if (bracket == std::string_view::npos) continue;
        bytes *= number<std::size_t>(word.substr(bracket + 1, word.size() - bracket - 2));
      }
    }
    alignment = std::max(alignment, std::size_t{1});
  }

  std::string name;
  std::size_t bytes = 0;
  std::size_t alignment = 0;
};

std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

class KernelParser {
 public:
  explicit KernelParser(Kernel& kernel) : kernel_(kernel) {}

  void read_parameters(std::string_view text) {
    for (std::string_view part : split(text)) {
      if (take_word(part) != ".param") throw Fault("no parameter: " + std::string(part));
      const Array array(part);
      kernel_.parameter_bytes =
          round_up(kernel_.parameter_bytes, std::max(array.alignment, std::size_t{8}));
      addresses_[array.name] = kernel_.parameter_bytes;
      kernel_.parameters.push_back({kernel_.parameter_bytes, array.bytes});
      kernel_.parameter_bytes += array.bytes;
    }
  }

  void read_limits(std::string_view text) {
    const std::size_t at = text.find(".maxntid");
    if (at == std::string_view::npos) return;
    text.remove_prefix(at + 8);
    kernel_.most_threads = number<unsigned>(trim(text.substr(0, text.find(','))));
  }

  void read_body(std::string_view text) {
    std::size_t begin = 0;
    scopes_.emplace_back();
    for (std::size_t i = 0; i < text.size(); ++i) {
      // Braces of vectors follow a name of an instruction or a comma; those of scopes nothing.
      const std::string_view pending = trim(text.substr(begin, i - begin));
      if (text[i] == ';') {
        read_statement(pending);
      } else if (text[i] == ':') {
        labels_[std::string(pending)] = kernel_.instructions.size();
      } else if (text[i] == '{' && pending.empty()) {
        scopes_.emplace_back();
      } else if (text[i] == '}' && pending.empty()) {
        scopes_.pop_back();
      } else {
        continue;
      }
      begin = i + 1;
    }
    resolve_branches();
  }

 private:
  struct Registers {
    std::string prefix;
    bool are_predicates;
    std::uint32_t count;  // 0: the prefix is the name of one
    std::uint32_t first;
  };

  void read_statement(std::string_view text) {
    if (text.starts_with(".reg")) return declare(text.substr(4));
    if (text.starts_with(".shared")) return add_shared(Array(text.substr(7)));
    if (text.starts_with(".pragma") || text.starts_with(".loc")) return;
    if (text.empty()) return;
    try {
      read_instruction(text);
    } catch (const Fault& fault) {
      throw Fault(std::string(fault.what()) + "\n  in: " + std::string(text) + "\n  of " +
                  kernel_.name);
    }
  }

  void declare(std::string_view text) {
    const bool are_predicates = take_word(text) == ".pred";
    std::uint32_t& total = are_predicates ? kernel_.predicates : kernel_.registers;
    for (const std::string_view part : split(text)) {
      const std::size_t bracket = part.find('<');
      std::uint32_t count = 0;
      if (bracket != std::string_view::npos) {
        count = number<std::uint32_t>(part.substr(bracket + 1, part.size() - bracket - 2));
      }
      const std::string prefix(part.substr(0, bracket));
      scopes_.back().push_back({prefix, are_predicates, count, total});
      total += std::max(count, 1u);
    }
  }

  void add_shared(const Array& array) {
    const std::size_t end =
        kernel_.shared.empty() ? 0 : kernel_.shared.back().begin + kernel_.shared.back().size;
    const std::size_t begin = round_up(end + kGap, std::max(array.alignment, std::size_t{16}));
    kernel_.shared.push_back({begin, array.bytes});
    addresses_[array.name] = begin;
    shared_bytes_ = round_up(shared_bytes_, array.alignment) + array.bytes;
    if (shared_bytes_ > kMostSharedBytes) throw Fault("too much shared memory: " + kernel_.name);
  }

  void read_instruction(std::string_view text) {
    Instruction instruction;
    instruction.text = text;
    if (text[0] == '@') {
      std::string_view guard = take_word(text).substr(1);
      instruction.guard_is_negated = guard.starts_with('!');
      if (instruction.guard_is_negated) guard.remove_prefix(1);
      instruction.guard = operand(guard);
    }
    std::string name(take_word(text));
    const std::vector<std::string_view> operands = split(text);
    if (name.starts_with("mov.") && text.find('{') != std::string_view::npos) {
      name.replace(0, 3, operands.front().front() == '{' ? "unpack" : "pack");
    }
    instruction.opcode = opcode(name);
    if (instruction.opcode.flow == Flow::kBranch) {
      branches_[kernel_.instructions.size()] = text;
    } else if (instruction.opcode.flow == Flow::kBarrier) {
      if (text != "0") throw Fault("a barrier other than that of all threads");
    } else {
      add_operands(instruction, operands, name.starts_with("st."));
    }
    kernel_.instructions.push_back(std::move(instruction));
  }

  /// The first operand is the target, but of a store.
  void add_operands(Instruction& instruction, const std::vector<std::string_view>& operands,
                    bool all_are_sources) {
    for (std::size_t i = 0; i < operands.size(); ++i) {
      std::string_view text = operands[i];
      if (text[0] == '[') text = take_address(text, instruction.offset);
      const bool is_list = text[0] == '{';
      if (is_list) text = text.substr(1, text.size() - 2);
      const std::size_t bar = text.find('|');
      std::vector<std::string_view> names = split(text);
      if (bar != std::string_view::npos) {
        names = {trim(text.substr(0, bar)), trim(text.substr(bar + 1))};
      }
      for (const std::string_view name : names) {
        if (i == 0 && !all_are_sources) {
          instruction.targets.at(instruction.target_count++) = operand(name);
        } else {
          instruction.sources.at(instruction.source_count++) = operand(name);
        }
      }
    }
  }

  /// The register or array of `[name+offset]`.
  static std::string_view take_address(std::string_view text, std::int64_t& offset) {
    text = text.substr(1, text.size() - 2);
    const std::size_t plus = text.find('+');
    if (plus != std::string_view::npos) offset = number<std::int64_t>(text.substr(plus + 1));
    return trim(text.substr(0, plus));
  }

  Operand operand(std::string_view name) {
    if (const auto bits = constant(name)) return add_constant(*bits);
    if (const auto array = addresses_.find(name); array != addresses_.end()) {
      return add_constant(array->second);
    }
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      for (const Registers& registers : *scope) {
        if (const auto index = index_in(registers, name)) {
          return {registers.are_predicates ? Operand::Kind::kPredicate : Operand::Kind::kRegister,
                  *index};
        }
      }
    }
    return special(name);
  }

  static std::optional<std::uint32_t> index_in(const Registers& registers, std::string_view name) {
    if (registers.count == 0) {
      return name == registers.prefix ? std::optional(registers.first) : std::nullopt;
    }
    if (!name.starts_with(registers.prefix)) return {};
    name.remove_prefix(registers.prefix.size());
    if (name.empty() || !std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; })) {
      return {};
    }
    const auto index = number<std::uint32_t>(name);
    return index < registers.count ? std::optional(registers.first + index) : std::nullopt;
  }

  Operand add_constant(std::uint64_t bits) {
    const auto [place, is_new] =
        constants_.try_emplace(bits, static_cast<std::uint32_t>(kernel_.constants.size()));
    if (is_new) kernel_.constants.emplace_back().fill(bits);
    return {Operand::Kind::kConstant, place->second};
  }

  Operand special(std::string_view name) {
    static const std::map<std::string, Special, std::less<>> known = {
        {"%tid.x", Special::kThread},   {"%ctaid.x", Special::kBlock},
        {"%ntid.x", Special::kThreads}, {"%nctaid.x", Special::kBlocks},
        {"%laneid", Special::kLane},    {"%tid.y", Special::kZero},
        {"%tid.z", Special::kZero},     {"%ctaid.y", Special::kZero},
        {"%ctaid.z", Special::kZero}};
    const auto found = known.find(name);
    if (found == known.end()) throw Fault("no register or array " + std::string(name));
    const auto [place, is_new] = specials_.try_emplace(found->second, kernel_.registers);
    if (is_new) kernel_.specials.emplace_back(found->second, kernel_.registers++);
    return {Operand::Kind::kRegister, place->second};
  }

  void resolve_branches() {
    for (const auto& [index, label] : branches_) {
      const auto found = labels_.find(label);
      if (found == labels_.end()) throw Fault("no label " + label + " in " + kernel_.name);
      kernel_.instructions[index].branch = found->second;
    }
    // A group that runs past the end meets an instruction that says so.
    kernel_.instructions.push_back({});
    kernel_.instructions.back().opcode = opcode("ret");
    kernel_.instructions.back().text = "the end";
  }

  Kernel& kernel_;
  std::size_t shared_bytes_ = 0;
  std::vector<std::vector<Registers>> scopes_;
  std::map<std::string, std::size_t, std::less<>> addresses_, labels_;
  std::map<std::size_t, std::string> branches_;
  std::map<std::uint64_t, std::uint32_t> constants_;
  std::map<Special, std::uint32_t> specials_;
};

std::string without_comments(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t comment = std::min(text.find("//"), text.size());
    result += text.substr(0, comment);
    text.remove_prefix(std::min(text.find('\n', comment), text.size()));
  }
  return result;
}

/// The end of a group in braces that begins at `at`.
std::size_t end_of_braces(std::string_view text, std::size_t at) {
  int depth = 0;
  do {
    at = text.find_first_of("{}", at);
    if (at == std::string_view::npos) throw Fault("braces that do not end");
    depth += text[at++] == '{' ? 1 : -1;
  } while (depth > 0);
  return at;
}

}  // namespace

std::string plain_name(std::string name) {
  constexpr std::string_view kMark = "_GLOBAL__N__";
  const std::size_t mark = name.find(kMark);
  if (mark == std::string::npos) return name;
  std::size_t digits = mark;
  while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9') --digits;
  const auto length = number<std::size_t>(std::string_view(name).substr(digits, mark - digits));
  return name.replace(digits, mark - digits + length, "12_GLOBAL__N_1");
}

Program parse(std::string_view commented) {
  const std::string text = without_comments(commented);
  Program program;
  for (std::size_t at = text.find(".entry"); at != std::string::npos;
       at = text.find(".entry", at)) {
    const std::size_t open = text.find('(', at), close = text.find(')', open);
    const std::size_t body = text.find('{', close), end = end_of_braces(text, body);
    const std::string_view all = text;
    Kernel kernel;
    kernel.name = plain_name(std::string(trim(all.substr(at + 6, open - at - 6))));
    KernelParser parser(kernel);
    parser.read_parameters(all.substr(open + 1, close - open - 1));
    parser.read_limits(all.substr(close, body - close));
    parser.read_body(all.substr(body + 1, end - body - 2));
    program.insert_or_assign(kernel.name, std::move(kernel));
    at = end;
  }
  return program;
}

}  // namespace ptx

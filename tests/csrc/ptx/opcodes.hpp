#pragma once
/// The table of opcodes, in two parts: those that compute, and those that move values.

#include <map>
#include <string>

#include "program.hpp"

namespace ptx {

using Table = std::map<std::string, Opcode, std::less<>>;

void add_arithmetic(Table& table);
void add_transfers(Table& table);

}  // namespace ptx

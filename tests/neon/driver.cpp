// Runs the activation loops of one instruction set on arrays from stdin and writes the results to stdout, without
// Python: built for aarch64 it runs in an emulator.
//
// Every operand ends where its memory ends, so that touching a byte behind it is a segmentation fault; the bytes in
// front of an output are checked afterwards, and so are the inputs that it does not overwrite.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../../kernels/cpu/activations.hpp"
#include "../../kernels/include/simd.hpp"

using namespace fastnn_cpu;

#define NAME_OF(isa) fastnn_activations_##isa
#define NAME(isa) NAME_OF(isa)
extern "C" const Activations* NAME(FASTNN_ISA)();

namespace {

struct Request {
  char name[24];
  std::int32_t pass, dtype, flags;
  std::int32_t in_place;  // the input that the output overwrites, or -1
  std::int64_t n;
};

[[noreturn]] void fail(const Request& r, const char* what) {
  std::fprintf(stderr, "%s: pass %d, dtype %d, flags %d, n %lld: %s\n", r.name, r.pass, r.dtype, r.flags,
               static_cast<long long>(r.n), what);
  std::exit(1);
}

class Memory {
 public:
  Memory() {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    void* const start = mmap(nullptr, capacity + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) std::abort();
    end_ = static_cast<unsigned char*>(start) + capacity;
    if (mprotect(end_, page, PROT_NONE) != 0) std::abort();
  }
  unsigned char* place(std::size_t bytes) {
    if (bytes + border > capacity) std::abort();
    unsigned char* const first = end_ - bytes;
    std::memset(first - border, canary, border);
    return first;
  }
  static bool intact(const unsigned char* first) {
    for (std::size_t i = 1; i <= border; ++i)
      if (first[-static_cast<std::ptrdiff_t>(i)] != canary) return false;
    return true;
  }

 private:
  static constexpr std::size_t capacity = 4 << 20, border = 256;
  static constexpr unsigned char canary = 0xa5;
  unsigned char* end_;
};

const Activation* find(const char* name) {
  const Activations& all = *NAME(FASTNN_ISA)();
  for (int i = 0; i < all.count; ++i)
    if (std::strcmp(all.rows[i].name, name) == 0) return &all.rows[i];
  return nullptr;
}

void answer(const Request& r, Memory* memory) {
  const Activation* const op = find(r.name);
  if (op == nullptr || op->loops[r.pass][r.dtype] == nullptr) fail(r, "no such loop");
  static const std::size_t sizes[] = {4, 8, 2, 2};
  const std::size_t item = sizes[r.dtype], parameter_item = item == 8 ? 8 : 4, n = static_cast<std::size_t>(r.n);
  const int arrays = r.pass == pass_forward ? 1 : 2, inputs = arrays + op->parameters;

  void* operands[8];
  std::vector<unsigned char> copies[8];
  for (int i = 0; i < inputs; ++i) {
    const std::size_t count = i < arrays || (r.flags & parameter_arrays) ? n : 1;
    const std::size_t bytes = count * (i < arrays ? item : parameter_item);
    copies[i].resize(bytes);
    if (std::fread(copies[i].data(), 1, bytes, stdin) != bytes) fail(r, "the request is too short");
    operands[i] = memory[i].place(bytes);
    if (bytes != 0) std::memcpy(operands[i], copies[i].data(), bytes);
  }
  unsigned char* out = memory[inputs].place(n * item);
  if (n != 0) std::memset(out, 0xee, n * item);
  if (r.in_place >= 0) out = static_cast<unsigned char*>(operands[r.in_place]);
  operands[inputs] = out;

  op->loops[r.pass][r.dtype](operands, r.n, static_cast<unsigned>(r.flags));

  if (!Memory::intact(out)) fail(r, "wrote before the output");
  for (int i = 0; i < inputs; ++i)
    if (i != r.in_place && !copies[i].empty() && std::memcmp(operands[i], copies[i].data(), copies[i].size()) != 0)
      fail(r, "changed an input");
  if (std::fwrite(out, 1, n * item, stdout) != n * item) fail(r, "cannot write the results");
}

}  // namespace

int main() {
  Memory memory[8];
  Request request;
  while (std::fread(&request, sizeof request, 1, stdin) == 1) answer(request, memory);
  return 0;
}

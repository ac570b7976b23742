#include "elementwise.hpp"

#include "streaming.hpp"

#include <cfenv>
#include <cstring>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fastnn_cpu {
namespace {

constexpr int max_operands = 6;
constexpr std::int64_t block = 512;  // elements gathered at a time: all operands of a block fit the first-level cache
constexpr std::int64_t chunk = 16 * 1024;  // elements a thread takes at a time

template <class T>
void gather(char* to, const char* from, std::int64_t stride, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) std::memcpy(to + i * sizeof(T), from + i * stride, sizeof(T));
}
template <class T>
void scatter(char* to, std::int64_t stride, const char* from, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) std::memcpy(to + i * stride, from + i * sizeof(T), sizeof(T));
}
void gather(int item, char* to, const char* from, std::int64_t stride, std::int64_t n) {
  if (item == 2)
    gather<std::uint16_t>(to, from, stride, n);
  else if (item == 4)
    gather<std::uint32_t>(to, from, stride, n);
  else
    gather<std::uint64_t>(to, from, stride, n);
}
void scatter(int item, char* to, std::int64_t stride, const char* from, std::int64_t n) {
  if (item == 2)
    scatter<std::uint16_t>(to, stride, from, n);
  else if (item == 4)
    scatter<std::uint32_t>(to, stride, from, n);
  else
    scatter<std::uint64_t>(to, stride, from, n);
}

struct Job {
  const Operation& operation;
  Loop loop;
  char* const* args;
  const std::int64_t* strides;
  int operands;
  unsigned flags;

  int item(int k) const {
    const bool parameter = k >= operation.arrays && k < operands - 1;
    return parameter ? operation.parameter_item : operation.item;
  }
  // A parameter that is one number is passed on as such, unless another one is an array.
  bool single(int k) const { return k >= operation.arrays && k < operands - 1 && !(flags & parameter_arrays); }
};

void contiguous_body(void* context, std::int64_t begin, std::int64_t end) {
  const Job& job = *static_cast<const Job*>(context);
  void* operands[max_operands];
  for (int k = 0; k < job.operands; ++k) operands[k] = job.args[k] + begin * job.strides[k];
  job.loop(operands, end - begin, job.flags);
}

void strided_body(void* context, std::int64_t begin, std::int64_t end) {
  const Job& job = *static_cast<const Job*>(context);
  alignas(64) char buffers[max_operands][block * 8];
  for (std::int64_t at = begin; at < end; at += block) {
    const std::int64_t n = end - at < block ? end - at : block;
    void* operands[max_operands];
    for (int k = 0; k < job.operands; ++k) {
      const int item = job.item(k);
      char* const first = job.args[k] + at * job.strides[k];
      if (job.single(k) || job.strides[k] == item) {
        operands[k] = first;
      } else {
        operands[k] = buffers[k];
        if (k < job.operands - 1) gather(item, buffers[k], first, job.strides[k], n);
      }
    }
    job.loop(operands, n, job.flags);
    const int out = job.operands - 1;
    if (operands[out] == buffers[out])
      scatter(job.item(out), job.args[out] + at * job.strides[out], job.strides[out], buffers[out], n);
  }
}

}  // namespace

void run(const Operation& operation, const Runtime& runtime, char* const* args, const std::int64_t* strides,
         std::int64_t n) {
  Job job = {operation, operation.loops[runtime.active_isa()],       args,
             strides,   operation.arrays + operation.parameters + 1, 0};
  const int out = job.operands - 1;
  for (int k = operation.arrays; k < out; ++k)
    if (strides[k] != 0) job.flags = parameter_arrays;
  bool contiguous = true, aliased = false;
  for (int k = 0; k < job.operands; ++k) {
    contiguous = contiguous && (job.single(k) ? strides[k] == 0 : strides[k] == job.item(k));
    aliased = aliased || (k < out && args[k] == args[out]);
  }
  if (contiguous && !aliased && n * operation.item >= streaming_from()) job.flags |= streaming_stores;
  const fastnn::chunk_body body = contiguous ? contiguous_body : strided_body;
  if (n >= operation.parallel_from && runtime.pool->get_num_threads() > 1)
    runtime.pool->parallel_for(n, chunk, body, &job);
  else
    body(&job, 0, n);
}

void run_quietly(const Operation& operation, const Runtime& runtime, char* const* args, const std::int64_t* strides,
                 std::int64_t n) {
#if defined(__x86_64__)
  const unsigned before = _mm_getcsr();
  run(operation, runtime, args, strides, n);
  _mm_setcsr(before);
#else
  std::fexcept_t before;
  std::fegetexceptflag(&before, FE_ALL_EXCEPT);
  run(operation, runtime, args, strides, n);
  std::fesetexceptflag(&before, FE_ALL_EXCEPT);
#endif
}

namespace {

struct SumJob {
  const Operation& operation;
  Loop loop;
  const char *dy, *x, *parameter;
  std::int64_t outer, channels, inner;
  double* partial;
};

// Adds up n floats or doubles on sixteen accumulators in a fixed order.
template <class T>
double sum(const T* terms, std::int64_t n) {
  double lane[16] = {};
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int k = 0; k < 16; ++k) lane[k] += terms[i + k];
  for (int k = 0; i < n; ++i, ++k) lane[k] += terms[i];
  for (int width = 8; width > 0; width /= 2)
    for (int k = 0; k < width; ++k) lane[k] += lane[k + width];
  return lane[0];
}

// The gradient's terms for n elements from `at` on, in a buffer.
void terms(const SumJob& job, std::int64_t at, std::int64_t n, const char* parameter, unsigned flags, char* buffer) {
  const std::int64_t item = job.operation.item;
  void* operands[] = {const_cast<char*>(job.dy + at * item), const_cast<char*>(job.x + at * item),
                      const_cast<char*>(parameter), buffer};
  job.loop(operands, n, flags);
}

template <class T>
double segment(const SumJob& job, std::int64_t at, std::int64_t n, const char* parameter) {
  alignas(64) char buffer[block * 8];
  double total = 0;
  for (std::int64_t i = 0; i < n; i += block) {
    const std::int64_t part = n - i < block ? n - i : block;
    terms(job, at + i, part, parameter, 0, buffer);
    total += sum(reinterpret_cast<const T*>(buffer), part);
  }
  return total;
}

template <class T>
void one_parameter(void* context, std::int64_t begin, std::int64_t end) {
  const SumJob& job = *static_cast<const SumJob*>(context);
  job.partial[begin / chunk] = segment<T>(job, begin, end - begin, job.parameter);
}

template <class T>
void by_channel(void* context, std::int64_t begin, std::int64_t end) {
  const SumJob& job = *static_cast<const SumJob*>(context);
  for (std::int64_t c = begin; c < end; ++c) {
    double total = 0;
    for (std::int64_t o = 0; o < job.outer; ++o)
      total += segment<T>(job, (o * job.channels + c) * job.inner, job.inner,
                          job.parameter + c * job.operation.parameter_item);
    job.partial[c] = total;
  }
}

// inner == 1: the channels themselves are contiguous.
template <class T>
void across_channels(void* context, std::int64_t begin, std::int64_t end) {
  const SumJob& job = *static_cast<const SumJob*>(context);
  alignas(64) char buffer[block * 8];
  for (std::int64_t c = begin; c < end; c += block) {
    const std::int64_t n = end - c < block ? end - c : block;
    double total[block] = {};
    for (std::int64_t o = 0; o < job.outer; ++o) {
      terms(job, o * job.channels + c, n, job.parameter + c * job.operation.parameter_item, parameter_arrays, buffer);
      for (std::int64_t k = 0; k < n; ++k) total[k] += reinterpret_cast<const T*>(buffer)[k];
    }
    std::memcpy(job.partial + c, total, n * sizeof(double));
  }
}

template <class T>
void sum_typed(SumJob& job, const Runtime& runtime, double* total) {
  if (job.channels == 1) {
    const std::int64_t n = job.outer * job.inner;
    std::vector<double> partial((n + chunk - 1) / chunk);
    job.partial = partial.data();
    runtime.pool->parallel_for(n, chunk, one_parameter<T>, &job);
    total[0] = sum(partial.data(), static_cast<std::int64_t>(partial.size()));
  } else {
    job.partial = total;
    const bool across = job.inner == 1;
    const std::int64_t each = across ? job.outer : job.outer * job.inner,
                       grain = each >= chunk ? 1 : chunk / (each + 1) + 1;
    runtime.pool->parallel_for(job.channels, across && grain < block ? block : grain,
                               across ? across_channels<T> : by_channel<T>, &job);
  }
}

}  // namespace

void sum_parameter_gradient(const Operation& operation, const Runtime& runtime, const char* dy, const char* x,
                            const char* parameter, std::int64_t outer, std::int64_t channels, std::int64_t inner,
                            double* total) {
  SumJob job = {operation, operation.loops[runtime.active_isa()], dy, x, parameter, outer, channels, inner, nullptr};
  if (operation.parameter_item == 4)  // of the 16-bit formats, too: their terms are float
    sum_typed<float>(job, runtime, total);
  else
    sum_typed<double>(job, runtime, total);
}

}  // namespace fastnn_cpu

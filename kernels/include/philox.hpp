// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw (2011, "Parallel random numbers: as easy
// as 1, 2, 3"): ten rounds of multiplying, exchanging and xor-ing turn a counter of four words into four random words.
// Nothing is carried from one block to the next, so any element's random number is found without those before it.
//
// How fastnn numbers them: the key is the seed (low word first), words 0 and 1 of the counter are the number of the
// block, words 2 and 3 the offset, which sets apart the streams of one seed. An element takes 16 bits: element i has
// half i % 8 of block i / 8, the low half of a word before its high half, so that in memory the halves of all elements
// follow each other as an array of 16-bit numbers. It is kept where its half is at least round(65536 p).
//
//   philox<u32>(seed, offset).block(number, words)       one block: the CUDA thread, and small numbers of draws
//   philox<vwords>(seed, offset).fill(to, number, count) many blocks
//   for_each_run(...)                                    the halves of any run of elements, while they lie in the cache
//   at_least16<V>(halves + i, threshold(...))            which lanes are kept (simd.hpp)
//
// 16-bit draws halve the work and move p by at most 2^-17; the number that is used in scales is the rounded one.
// Floor: 20 multiplications, 20 shifts and 20 xors of three for the blocks of a vector. Tried and rejected: words in
// 32-bit lanes on x86 (products of even and odd lanes apart, and shuffles in every round); the first two rounds for
// block numbers that share their other words (saves three multiplications of twenty and gains nothing on v4); more than
// four vectors at a time (they leave the registers).
#pragma once
#include "simd.hpp"

FASTNN_BEGIN

constexpr int block_words = 4, block_halves = 8;  // of random bits in a block; also the elements that it serves
constexpr int philox_rounds = 10;

template <class W>
class philox {
 public:
  FASTNN_FN philox(u64 seed, u64 offset) : seed_(seed), offset_(offset) {
    u32 low = static_cast<u32>(seed), high = static_cast<u32>(seed >> 32);
    for (int r = 0; r < philox_rounds; ++r, low += 0x9e3779b9u, high += 0xbb67ae85u) {
      key_[r][0] = W(low);
      key_[r][1] = W(high);
    }
  }

  // The words of one block.
  FASTNN_FN void block(u64 number, u32* words) const { vectors<1>(words, number); }

  // Blocks number, number + 1 ... to memory, in order, four words each: count of them, rounded up to whole vectors.
  FASTNN_FN void fill(void* to, u64 number, int count) const {
    constexpr int together = 4, bytes = block_words * sizeof(u32);
    char* p = static_cast<char*>(to);
    int i = 0;
    if (static_cast<u32>(number) <= ~u32(0) - static_cast<u32>(count + word_lanes<W>)) {
      for (; i + together * word_lanes<W> <= count; i += together * word_lanes<W>)
        vectors<together>(p + i * bytes, number + i);
      for (; i < count; i += word_lanes<W>) vectors<1>(p + i * bytes, number + i);
    } else {  // somewhere on the way the low word of the number overflows into the high one
      const philox<u32> single(seed_, offset_);
      for (; i < count; ++i) {
        u32 words[block_words];
        single.block(number + i, words);
        FASTNN_MEMCPY(p + i * bytes, words, bytes);
      }
    }
  }

 private:
  // The blocks of n vectors. n independent chains hide the latency of the multiplications.
  template <int n>
  FASTNN_FN void vectors(void* to, u64 number) const {
    const W first(0xd2511f53u), second(0xcd9e8d57u);
    W a[n], b[n], c[n], d[n];
    for (int k = 0; k < n; ++k) {
      a[k] = rising<W>(static_cast<u32>(number) + k * word_lanes<W>);
      b[k] = W(static_cast<u32>(number >> 32));
      c[k] = W(static_cast<u32>(offset_));
      d[k] = W(static_cast<u32>(offset_ >> 32));
    }
    for (int r = 0; r < philox_rounds; ++r)
      for (int k = 0; k < n; ++k) {
        const auto p = product(a[k], first), q = product(c[k], second);
        a[k] = xor3(high(q), b[k], key_[r][0]);
        b[k] = low(q);
        c[k] = xor3(high(p), d[k], key_[r][1]);
        d[k] = low(p);
      }
    constexpr int bytes = word_lanes<W> * block_words * sizeof(u32);
    for (int k = 0; k < n; ++k) store_blocks(static_cast<char*>(to) + k * bytes, a[k], b[k], c[k], d[k]);
  }

  W key_[philox_rounds][2];
  u64 seed_, offset_;
};

// The 16-bit halves of the elements first, first + 1 ... first + n - 1: f(begin, end, halves) is called for successive
// ranges of indices below n, with halves[i - begin] for index i. A range ends a multiple of run_step elements after
// index `head` (below run_step), so that vectors begin where the caller needs them to, but for the last one.
//
// Ranges are short, so that the processor draws the numbers of the next one while it waits for the memory of this one.
constexpr int run_length = 256, run_step = 64;

template <class F>
FASTNN_FN void for_each_run(const philox<vwords>& generator, u64 first, long long n, long long head, F f) {
  alignas(64) u16 buffer[run_step + run_length];  // what the last range left over, and what is drawn for this one
  u64 number = first / block_halves;
  long long drawn = -static_cast<long long>(first % block_halves), done = 0;
  while (done < n) {
    const long long missing = (n - drawn + block_halves - 1) / block_halves;
    const int count = missing < run_length / block_halves ? static_cast<int>(missing) : run_length / block_halves;
    generator.fill(buffer + run_step, number, count);
    const u16* const halves = buffer + run_step - (drawn - done);
    number += count;
    drawn += count * block_halves;
    const long long end = drawn >= n ? n : head + (drawn - head) / run_step * run_step;
    f(done, end, halves);
    if (end < n) FASTNN_MEMCPY(buffer, buffer + run_length, run_step * sizeof(u16));
    done = end;
  }
}

FASTNN_END

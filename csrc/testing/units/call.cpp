// Batch and Arena: which rows are active when, where they lie, and how much memory that takes.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine/call/arena.h"
#include "engine/call/batch.h"
#include "units.h"

namespace fastrnn {
namespace {

constexpr bool kPacked = true, kPadded = false;
constexpr bool kForward = false, kReverse = true;

// Entries 2, 0, 1 of lengths 4, 3, 2 in room for five steps
Batch ragged(bool packed, const bool* resets = nullptr) {
  return Batch(5, 3, {3, 3, 2, 1, 0}, {2, 0, 1}, packed, resets);
}

UNIT(a_dense_batch_has_all_rows_at_all_steps) {
  const Batch batch(4, 3, {}, {}, false, nullptr);
  EXPECT_EQUAL(batch.rows(), 12);
  EXPECT_EQUAL(batch.mean_active(), 3.0);
  EXPECT(!batch.padded());
  for (int64_t t = 0; t < 4; ++t) {
    EXPECT_EQUAL(batch.active(t), 3);
    EXPECT_EQUAL(batch.start(t), 3 * t);
  }
  for (int64_t r = 0; r < 3; ++r) {
    EXPECT_EQUAL(batch.length(r), 4);
    EXPECT_EQUAL(batch.entry(r), r);
  }
}

UNIT(a_ragged_batch_has_a_prefix_of_its_rows_and_ends_with_the_last_of_them) {
  const Batch batch = ragged(kPadded);
  EXPECT_EQUAL(batch.T(), 4);
  EXPECT_EQUAL(batch.span(), 5);
  EXPECT_EQUAL(batch.rows(), 9);
  EXPECT_EQUAL(batch.mean_active(), 9 / 4.0);
  EXPECT(batch.padded());
  EXPECT(!ragged(kPacked).padded());
  const int64_t starts[] = {0, 3, 6, 8}, lengths[] = {4, 3, 2}, entries[] = {2, 0, 1};
  for (int64_t t = 0; t < 4; ++t) EXPECT_EQUAL(batch.start(t), starts[t]);
  for (int64_t r = 0; r < 3; ++r) {
    EXPECT_EQUAL(batch.length(r), lengths[r]);
    EXPECT_EQUAL(batch.entry(r), entries[r]);
  }
}

UNIT(a_batch_without_any_active_row_has_no_steps) {
  const Batch batch(2, 2, {0, 0}, {}, kPadded, nullptr);
  EXPECT_EQUAL(batch.T(), 0);
  EXPECT_EQUAL(batch.rows(), 0);
  EXPECT_EQUAL(batch.length(1), 0);
}

UNIT(a_row_comes_from_the_step_before_it_in_its_direction) {
  const Batch batch = ragged(kPadded);
  const int64_t forward[] = {Batch::kInitial, 0, 1, 2};
  for (int64_t t = 0; t < 4; ++t) EXPECT_EQUAL(batch.previous(kForward, t, 0), forward[t]);
  for (int64_t r = 0; r < 3; ++r) {
    const int64_t last = batch.length(r) - 1;
    EXPECT_EQUAL(batch.previous(kReverse, last, r), Batch::kInitial);
    for (int64_t t = 0; t < last; ++t) EXPECT_EQUAL(batch.previous(kReverse, t, r), t + 1);
  }
}

UNIT(a_reset_stands_between_two_steps_of_an_entry_in_both_directions) {
  bool resets[5 * 3] = {};
  resets[2 * 3 + 0] = true;  // entry 0, which is row 1, at step 2
  const Batch batch = ragged(kPadded, resets);
  EXPECT(batch.has_resets());
  EXPECT(!ragged(kPadded).has_resets());
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t t = 0; t < batch.length(r); ++t) {
      EXPECT_EQUAL(batch.previous(kForward, t, r) == Batch::kZeros, r == 1 && t == 2);
      EXPECT_EQUAL(batch.previous(kReverse, t, r) == Batch::kZeros, r == 1 && t == 1);
    }
  }
}

std::vector<int64_t> differences(const std::vector<int64_t>& from, const Batch& batch) {
  std::vector<int64_t> rows;
  for (size_t i = 0; i + 1 < from.size(); ++i)
    rows.push_back(batch.start(from[i + 1]) - batch.start(from[i]));
  return rows;
}

UNIT(blocks_hold_whole_steps_of_so_many_rows_or_a_single_step) {
  const Batch dense(5, 2, {}, {}, false, nullptr);
  EXPECT(differences(dense.blocks(4), dense) == std::vector<int64_t>({4, 4, 2}));
  EXPECT(differences(dense.blocks(1), dense) == std::vector<int64_t>({2, 2, 2, 2, 2}));
  EXPECT(differences(dense.blocks(100), dense) == std::vector<int64_t>({10}));
  const Batch batch = ragged(kPadded);
  EXPECT(differences(batch.blocks(6), batch) == std::vector<int64_t>({6, 3}));
}

UNIT(views_find_a_row_by_entry_or_by_its_place_among_the_packed) {
  float tensor[1] = {};
  const Batch padded = ragged(kPadded), packed = ragged(kPacked);
  const View<float> by_entry = padded.caller_view(tensor, 300, 10);
  EXPECT_EQUAL(by_entry.at(2, 1) - tensor, 2 * 300 + 0 * 10);  // row 1 is entry 0
  const View<float> by_place = packed.caller_view(tensor, 0, 10);
  EXPECT_EQUAL(by_place.at(2, 1) - tensor, 7 * 10);
  EXPECT_EQUAL(packed.entry_view(tensor, 300, 10).at(2, 1) - tensor, 2 * 300 + 0 * 10);
  EXPECT_EQUAL(padded.stacked_view(tensor, 10).at(2, 1) - tensor, 7 * 10);
  const Batch dense(5, 3, {}, {}, false, nullptr);
  EXPECT_EQUAL(dense.stacked_view(tensor, 10).at(2, 1) - tensor, 7 * 10);
  EXPECT_EQUAL(dense.caller_view(tensor, 300, 10).at(2, 1) - tensor, 2 * 300 + 10);
}

// Takes pieces of several sizes and types, one of them empty; returns where each begins and ends.
std::vector<std::pair<intptr_t, intptr_t>> take_pieces(Arena& arena) {
  std::vector<std::pair<intptr_t, intptr_t>> pieces;
  const auto take = [&](auto* piece, int64_t count) {
    const auto begin = reinterpret_cast<intptr_t>(piece);
    pieces.emplace_back(begin, begin + count * static_cast<int64_t>(sizeof(*piece)));
  };
  for (int64_t count : {1, 0, 7, 64, 100}) {
    take(arena.take<float>(count), count);
    take(arena.take<double>(count), count);
    take(arena.take<const float*>(count), count);
  }
  return pieces;
}

UNIT(an_arena_that_counts_hands_out_nothing) {
  Arena arena(nullptr);
  EXPECT(!arena.take<float>(100));
  EXPECT(arena.bytes() >= int64_t{100 * sizeof(float)});
}

UNIT(what_an_arena_has_counted_is_enough_wherever_the_block_begins) {
  Arena counting(nullptr);
  take_pieces(counting);
  const std::unique_ptr<char[]> memory(new char[counting.bytes() + 64]);
  for (int64_t offset : {0, 1, 8, 63}) {
    char* const block = memory.get() + offset;
    Arena arena(block);
    intptr_t end = reinterpret_cast<intptr_t>(block);
    for (const auto& [piece, piece_end] : take_pieces(arena)) {
      EXPECT_EQUAL(piece % 64, 0);
      EXPECT(piece >= end);
      end = piece_end;
    }
    EXPECT(end <= reinterpret_cast<intptr_t>(block) + counting.bytes());
  }
}

}  // namespace
}  // namespace fastrnn

// Unit tests of the engine in C++: what Python sees from afar only.
#pragma once

#include <iostream>
#include <mutex>
#include <vector>

namespace fastrnn::units {

struct Unit {
  const char* name;
  void (*run)();
};

inline std::vector<Unit>& all_units() {
  static std::vector<Unit> all;
  return all;
}

inline int failures = 0;

template <class Got, class Expected>
void expect_equal(const Got& got, const Expected& expected, const char* what, int line) {
  if (got == expected) return;
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  ++failures;
  std::cerr << "line " << line << ": " << what << ": expected " << expected << ", got " << got
            << "\n";
}

}  // namespace fastrnn::units

#define UNIT(name)                                                    \
  static void name();                                                 \
  static const bool listed_##name =                                   \
      (::fastrnn::units::all_units().push_back({#name, name}), true); \
  static void name()

// From any thread
#define EXPECT_EQUAL(got, expected) ::fastrnn::units::expect_equal(got, expected, #got, __LINE__)
#define EXPECT(condition) EXPECT_EQUAL(bool(condition), true)

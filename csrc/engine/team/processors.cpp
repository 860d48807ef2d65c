#include "processors.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

#include "openmp.h"

namespace fastrnn {
namespace {

std::atomic<int> pretended{0};

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "200000 100000": microseconds of each period; "max 100000" for no limit
double quota_of_version_2(const std::string& folder) {
  std::istringstream line(text_of(folder + "/cpu.max"));
  double quota = 0, period = 0;
  return line >> quota >> period && period > 0 ? quota / period : 0;
}

// -1 for no limit
double quota_of_version_1(const std::string& folder) {
  std::istringstream quota_line(text_of(folder + "/cpu.cfs_quota_us")),
      period_line(text_of(folder + "/cpu.cfs_period_us"));
  double quota = 0, period = 0;
  return quota_line >> quota && period_line >> period && quota > 0 && period > 0 ? quota / period
                                                                                 : 0;
}

// The smallest quota of a group and of those that it is in. A container may see its own group as
// the top, whatever its name outside, so the top counts in any case.
double smallest_quota(const std::string& top, std::string group,
                      double (*quota_of)(const std::string& folder)) {
  double smallest = 0;
  for (;;) {
    const double quota = quota_of(top + group);
    if (quota > 0 && (smallest == 0 || quota < smallest)) smallest = quota;
    if (group.empty() || group == "/") return smallest;
    group.resize(group.rfind('/'));
  }
}

bool lists_cpu(const std::string& controllers) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');)
    if (name == "cpu") return true;
  return false;
}

int count_usable() {
  const double quota = processor_quota();
  const int allowed = allowed_processors();
  if (quota <= 0) return allowed;
  return std::clamp(static_cast<int>(std::min(std::ceil(quota), 1e6)), 1, allowed);
}

}  // namespace

int allowed_processors() {
  // An OpenMP remembers what it was before OMP_PROC_BIND gave this thread one place of it.
  if (const OpenMp* const shared = openmp()) return std::max(1, shared->processors());
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// Each line of the list of groups is "number:controllers:group"; version 2 has no controllers.
double processor_quota(const std::string& root) {
  const std::string mounts = root + "/sys/fs/cgroup";
  std::ifstream groups(root + "/proc/self/cgroup");
  double smallest = 0;
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    double quota = 0;
    if (controllers.empty()) {
      quota = smallest_quota(mounts, group, quota_of_version_2);
    } else if (lists_cpu(controllers)) {
      quota = smallest_quota(mounts + "/" + controllers, group, quota_of_version_1);
      if (quota == 0) quota = smallest_quota(mounts + "/cpu", group, quota_of_version_1);
    }
    if (quota > 0 && (smallest == 0 || quota < smallest)) smallest = quota;
  }
  return smallest;
}

int usable_processors() {
  static const int usable = count_usable();
  const int instead = pretended.load(std::memory_order_relaxed);
  return instead > 0 ? instead : usable;
}

void pretend_processors(int count) { pretended.store(count, std::memory_order_relaxed); }

}  // namespace fastrnn

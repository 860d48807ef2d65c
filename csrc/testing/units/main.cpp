#include "units.h"

int main() {
  using namespace fastrnn::units;
  for (const Unit& unit : all_units()) {
    const int before = failures;
    unit.run();
    if (failures > before) std::cerr << "failed: " << unit.name << "\n";
  }
  std::cout << all_units().size() << " units, " << failures << " failures\n";
  return failures == 0 ? 0 : 1;
}

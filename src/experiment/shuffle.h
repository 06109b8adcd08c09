// Seeded order that is the same with every standard library.
#pragma once

#include <cstddef>
#include <random>
#include <utility>
#include <vector>

namespace kvr::experiment {

// Fisher-Yates by our own draws: std::shuffle differs between standard libraries.
template <typename T>
void Shuffle(std::vector<T>* items, std::mt19937_64* random) {
  for (std::size_t i = items->size(); i > 1; --i) {
    std::swap((*items)[i - 1], (*items)[(*random)() % i]);
  }
}

}  // namespace kvr::experiment

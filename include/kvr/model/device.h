// The devices that a language model can run on.
//
// Thread safety: callable from any thread. Errors: as the function says. Cost:
// libtorch looks for devices at the first call.
#pragma once

#include <string>

namespace kvr::model {

// "cpu", or for "cuda" and "cuda:N" the name with the device's own. Throws kInvalidInput for
// another name, or a device that is not there.
[[nodiscard]] std::string DescribeDevice(const std::string& device);

}  // namespace kvr::model

// Private to the model layer.
#pragma once

#include <torch/script.h>

#include "kvr/model/kv_buffer.h"

namespace kvr::model {

struct KvBuffer::Tensors {
  at::Tensor keys, values;            // [layers, kv_heads, capacity, head_dim]
  at::Tensor host_keys, host_values;  // the same tensors, or on another device their CPU side
};

}  // namespace kvr::model

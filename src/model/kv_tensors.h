// Private to the model layer.
#pragma once

#include <torch/script.h>

#include "kvr/model/kv_buffer.h"

namespace kvr::model {

struct KvBuffer::Tensors {
  at::Tensor keys, values;  // [layers, kv_heads, capacity, head_dim]
};

}  // namespace kvr::model

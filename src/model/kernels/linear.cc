// kvr::linear: out = activation(x W^T + bias) + residual.
#include "operators.h"
#include "profile.h"

namespace kvr::model::kernels {

namespace {

// A plane of a quantized file's scales or lows: [panels, groups, kPanel], or empty.
SourcePlane DescribePlane(const at::Tensor& plane, const Linear& layer, const at::Tensor& scales) {
  if (plane.numel() == 0) return {nullptr, false};
  TORCH_CHECK(plane.is_contiguous() && plane.sizes() == scales.sizes() &&
                  (plane.scalar_type() == at::kHalf || plane.scalar_type() == at::kFloat),
              "weight: expected scales and lows of one shape, halves or floats");
  TORCH_CHECK(plane.size(0) * kPanel == layer.outputs && plane.size(2) == kPanel,
              "weight: expected scales for each panel");
  return {plane.const_data_ptr(), plane.scalar_type() == at::kHalf};
}

void DescribeSource(const at::Tensor& scales, const at::Tensor& lows, Linear* layer) {
  TORCH_CHECK(scales.dim() == 3 && scales.size(1) > 0 && layer->inputs % scales.size(1) == 0,
              "weight: a quantized file's numbers without a scale for each group");
  layer->source_group = layer->inputs / static_cast<int>(scales.size(1));
  TORCH_CHECK(layer->type == WeightType::kSource8 || layer->source_group == kGroup,
              "weight: numbers of 4 bits with groups of ", layer->source_group);
  layer->source_scales = DescribePlane(scales, *layer, scales);
  layer->source_lows = DescribePlane(lows, *layer, scales);
}

}  // namespace

// The weight's part of a layer.
Linear Describe(const at::Tensor& weight, const at::Tensor& scales, const at::Tensor& offsets) {
  TORCH_CHECK(weight.is_contiguous() && (weight.dim() == 3 || weight.dim() == 4) &&
                  weight.size(2) == kPanel,
              "weight: expected panels of ", kPanel, " outputs");
  Linear layer{};
  TORCH_CHECK(weight.numel() > 0, "weight: is empty");
  layer.weight = weight.const_data_ptr();
  layer.inputs = static_cast<int>(weight.size(1));
  layer.outputs = static_cast<int>(weight.size(0)) * kPanel;
  if (weight.scalar_type() == at::kFloat && weight.dim() == 3) {
    layer.type = WeightType::kFp32;
  } else if (weight.scalar_type() == at::kBFloat16 && weight.dim() == 3) {
    layer.type = WeightType::kBf16;
  } else if (weight.scalar_type() == at::kByte) {
    TORCH_CHECK(weight.dim() == 4 && weight.size(3) == 4, "weight: expected words of 32 bits");
    layer.type = WeightType::kSource4;
    layer.inputs *= 8;
    TORCH_CHECK(layer.inputs % kGroup == 0, "weight: found ", layer.inputs, " inputs of 4 bits");
    DescribeSource(scales, offsets, &layer);
  } else if (weight.scalar_type() == at::kChar && weight.dim() == 3) {
    layer.type = WeightType::kSource8;
    DescribeSource(scales, offsets, &layer);
  } else {
    TORCH_CHECK(
        weight.scalar_type() == at::kChar && weight.dim() == 4 && weight.size(3) == kDotInputs,
        "weight: expected panels of float32, bfloat16, int8 or words of 4 bits");
    layer.type = WeightType::kInt8;
    layer.inputs *= kDotInputs;
    const std::int64_t count = weight.size(0) * (layer.inputs / kGroup) * kPanel;
    TORCH_CHECK(layer.inputs % kGroup == 0 && scales.numel() == count && offsets.numel() == count &&
                    offsets.scalar_type() == at::kInt && offsets.is_contiguous(),
                "weight: int8 without a scale for each group of ", kGroup);
    layer.scales = Floats(scales, "scales");
    layer.offsets = offsets.const_data_ptr<std::int32_t>();
  }
  return layer;
}

at::Tensor LinearOp(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scales,
                    const at::Tensor& offsets, const std::optional<at::Tensor>& bias,
                    const std::optional<at::Tensor>& residual, std::int64_t outputs,
                    std::int64_t activation) {
  const Kernels& kernels = Here();
  Linear layer = Describe(weight, scales, offsets);
  layer.activation = static_cast<Activation>(activation);
  const bool halved = layer.activation == Activation::kSiluMultiply;
  TORCH_CHECK(activation >= 0 && activation <= 3, "activation: found ", activation);
  TORCH_CHECK(x.dim() == 2 && x.size(1) == layer.inputs, "x: expected ", layer.inputs, " columns");
  TORCH_CHECK(outputs <= layer.outputs && outputs > layer.outputs - kPanel &&
                  (!halved || outputs == layer.outputs),
              "outputs: found ", outputs, " for ", layer.outputs, " in the panels");
  layer.outputs = static_cast<int>(outputs);
  layer.rows = static_cast<int>(x.size(0));
  layer.x = Floats(x, "x");
  layer.bias = FloatsOrNull(bias, "bias");
  TORCH_CHECK(!bias || bias->numel() == outputs, "bias: expected ", outputs);
  layer.residual = FloatsOrNull(residual, "residual");
  at::Tensor out = at::empty({x.size(0), halved ? outputs / 2 : outputs}, x.options());
  TORCH_CHECK(!residual || residual->sizes() == out.sizes(),
              "residual: expected the output's shape");
  layer.out = out.mutable_data_ptr<float>();
  if (layer.rows == 0) return out;

  Timed packing("packing");
  const int panels = static_cast<int>(weight.size(0));
  const int tiles = kernels.row_tiles(layer);
  layer.packed_x = Scratch<0>(kernels.packed_bytes(layer));
  if (tiles == 1) kernels.pack_rows(layer, 0);
  const std::size_t scratch_bytes = kernels.panel_scratch_bytes(layer);
  if (tiles > 1) {
    Parallel(tiles, 1, [&](int tile, int last) {
      for (; tile < last; ++tile) kernels.pack_rows(layer, tile);
    });
  }
  packing.Stop();
  const Timed product("linear", 2.0 * layer.rows * layer.inputs * layer.outputs, layer.inputs,
                      layer.outputs);
  // One row has two panels at once where that pays.
  const int least = layer.rows == 1 ? 2 : 1;
  Parallel(panels, least, [&](int first, int last) {
    kernels.panels(layer, first, last, Scratch<1>(scratch_bytes));
  });
  return out;
}

}  // namespace kvr::model::kernels

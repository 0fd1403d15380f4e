// Arrays that are computed with element by element, the shapes broadcast as in numpy, as they lie
// in memory. Images in another layout than dense go with images of the same layout, and with dense
// ones of a single element or, if the channels are whole blocks, of one pixel.
#pragma once

#include "core/shape.hpp"

namespace ai3 {

struct Broadcast {
    // Throws std::invalid_argument, in the name of `op`, where the inputs do not go together.
    Broadcast(std::string_view op, const std::vector<Spec>& inputs);

    Shape shape;
    Layout layout = Layout::dense;
    // The result as it lies in memory, and for each input the elements between neighbours along
    // each of these dimensions: 0 where it is repeated. Not made where there are no elements.
    Shape held;
    std::vector<Shape> strides;
    // The first input that is not of the layout.
    std::size_t other = 0;
};

// Whether the channels of an image in blocks fill all of them.
inline bool whole_blocks(const Spec& spec) {
    return spec.layout != Layout::blocked ||
           spec.shape[spec.shape.size() - 3] % channel_block(spec.dtype) == 0;
}

}  // namespace ai3

#include "common/kernels/tf32.h"

#include <ATen/Context.h>

namespace imageddpo {

void AllowTf32(bool allow) {
  at::globalContext().setAllowTF32CuBLAS(allow);
  at::globalContext().setAllowTF32CuDNN(allow);  // libtorch's own default is to allow it.
}

}  // namespace imageddpo

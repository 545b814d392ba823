#pragma once

#include "common/kernels/lanes.h"

namespace imageddpo {

inline constexpr int kWinogradFilter = 3;  ///< Rows and columns of a filter.

/// The one-dimensional transforms: B^T of a patch, G of a filter and A^T of an image.
template <int kTile>
struct WinogradTransform;

template <>
struct WinogradTransform<2> {
  IMAGEDDPO_INLINE static void Patch(const Lanes (&d)[4], Lanes (&to)[4]) {
    to[0] = d[0] - d[2];
    to[1] = d[1] + d[2];
    to[2] = d[2] - d[1];
    to[3] = d[1] - d[3];
  }
  IMAGEDDPO_INLINE static void Filter(const Lanes (&g)[kWinogradFilter], Lanes (&to)[4]) {
    const Lanes outer = 0.5F * (g[0] + g[2]), inner = 0.5F * g[1];
    to[0] = g[0];
    to[1] = outer + inner;
    to[2] = outer - inner;
    to[3] = g[2];
  }
  IMAGEDDPO_INLINE static void Image(const Lanes (&m)[4], Lanes (&to)[2]) {
    to[0] = m[0] + m[1] + m[2];
    to[1] = m[1] - m[2] - m[3];
  }
};

template <>
struct WinogradTransform<4> {
  IMAGEDDPO_INLINE static void Patch(const Lanes (&d)[6], Lanes (&to)[6]) {
    const Lanes even = d[4] - 4.0F * d[2], odd = d[3] - 4.0F * d[1];
    const Lanes even_half = d[4] - d[2], odd_half = 2.0F * (d[3] - d[1]);
    to[0] = 4.0F * d[0] - 5.0F * d[2] + d[4];
    to[1] = even + odd;
    to[2] = even - odd;
    to[3] = even_half + odd_half;
    to[4] = even_half - odd_half;
    to[5] = 4.0F * d[1] - 5.0F * d[3] + d[5];
  }
  IMAGEDDPO_INLINE static void Filter(const Lanes (&g)[kWinogradFilter], Lanes (&to)[6]) {
    const Lanes outer = (-1.0F / 6) * (g[0] + g[2]), inner = (-1.0F / 6) * g[1];
    const Lanes outer_half = (1.0F / 24) * g[0] + (1.0F / 6) * g[2];
    const Lanes inner_half = (1.0F / 12) * g[1];
    to[0] = 0.25F * g[0];
    to[1] = outer + inner;
    to[2] = outer - inner;
    to[3] = outer_half + inner_half;
    to[4] = outer_half - inner_half;
    to[5] = g[2];
  }
  IMAGEDDPO_INLINE static void Image(const Lanes (&m)[6], Lanes (&to)[4]) {
    const Lanes sum = m[1] + m[2], difference = m[1] - m[2];
    const Lanes sum_half = m[3] + m[4], difference_half = m[3] - m[4];
    to[0] = m[0] + sum + sum_half;
    to[1] = difference + 2.0F * difference_half;
    to[2] = sum + 4.0F * sum_half;
    to[3] = difference + 8.0F * difference_half + m[5];
  }
};

/// The transforms as function objects.
template <int kTile>
struct FilterTransform {
  template <int kFrom, int kTo>
  IMAGEDDPO_INLINE void operator()(const Lanes (&in)[kFrom], Lanes (&out)[kTo]) const {
    WinogradTransform<kTile>::Filter(in, out);
  }
};
template <int kTile>
struct PatchTransform {
  template <int kFrom, int kTo>
  IMAGEDDPO_INLINE void operator()(const Lanes (&in)[kFrom], Lanes (&out)[kTo]) const {
    WinogradTransform<kTile>::Patch(in, out);
  }
};
template <int kTile>
struct ImageTransform {
  template <int kFrom, int kTo>
  IMAGEDDPO_INLINE void operator()(const Lanes (&in)[kFrom], Lanes (&out)[kTo]) const {
    WinogradTransform<kTile>::Image(in, out);
  }
};

}  // namespace imageddpo

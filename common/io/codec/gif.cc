#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/io/codec/raw_picture.h"

namespace imageddpo {
namespace {

using Palette = std::array<std::array<uint8_t, 3>, 256>;

int OnRead(GifFileType* gif, GifByteType* target, int size) {
  auto* rest = static_cast<std::string_view*>(gif->UserData);
  const size_t taken = std::min(static_cast<size_t>(std::max(size, 0)), rest->size());
  std::memcpy(target, rest->data(), taken);
  rest->remove_prefix(taken);
  return static_cast<int>(taken);
}

absl::Status CorruptGif(int code) {
  if (code == D_GIF_ERR_READ_FAILED || code == D_GIF_ERR_EOF_TOO_SOON ||
      code == D_GIF_ERR_NO_SCRN_DSCR) {
    return absl::InvalidArgumentError("the file is truncated");
  }
  const char* text = GifErrorString(code);
  return absl::InvalidArgumentError(
      absl::StrCat("its data is corrupt", text == nullptr ? "" : absl::StrCat(" (", text, ")")));
}

/// The frame's colours, else the file's; greys where there are none, as PIL has it.
Palette PaletteOf(const GifFileType& gif) {
  Palette palette;
  for (size_t i = 0; i < palette.size(); ++i) palette[i].fill(static_cast<uint8_t>(i));
  const ColorMapObject* map = gif.Image.ColorMap != nullptr ? gif.Image.ColorMap : gif.SColorMap;
  for (int i = 0; map != nullptr && i < std::min(map->ColorCount, 256); ++i) {
    const GifColorType& colour = map->Colors[i];
    palette[static_cast<size_t>(i)] = {colour.Red, colour.Green, colour.Blue};
  }
  return palette;
}

/// Goes on to the first frame. Sets `transparent` where its frame has such an index.
absl::Status FindFrame(GifFileType* gif, int& transparent) {
  for (;;) {
    GifRecordType type;
    if (DGifGetRecordType(gif, &type) != GIF_OK) return CorruptGif(gif->Error);
    if (type == IMAGE_DESC_RECORD_TYPE) {
      return DGifGetImageDesc(gif) == GIF_OK ? absl::OkStatus() : CorruptGif(gif->Error);
    }
    if (type != EXTENSION_RECORD_TYPE) return absl::InvalidArgumentError("it has no frame");
    int code = 0;
    GifByteType* block = nullptr;
    if (DGifGetExtension(gif, &code, &block) != GIF_OK) return CorruptGif(gif->Error);
    while (block != nullptr) {
      // A block starts with its length.
      if (code == GRAPHICS_EXT_FUNC_CODE && block[0] >= 4 && (block[1] & 1) != 0) {
        transparent = block[4];
      }
      if (DGifGetExtensionNext(gif, &block) != GIF_OK) return CorruptGif(gif->Error);
    }
  }
}

/// The rows of a frame in the order in which they are stored.
std::vector<size_t> RowOrder(size_t height, bool interlaced) {
  std::vector<size_t> rows;
  if (!interlaced) {
    for (size_t y = 0; y < height; ++y) rows.push_back(y);
    return rows;
  }
  for (const auto& [first, step] : {std::pair<size_t, size_t>{0, 8}, {4, 8}, {2, 4}, {1, 2}}) {
    for (size_t y = first; y < height; y += step) rows.push_back(y);
  }
  return rows;
}

}  // namespace

absl::StatusOr<RawPicture> DecodeGif(std::string_view bytes) {
  int code = 0;
  GifFileType* gif = DGifOpen(&bytes, &OnRead, &code);
  if (gif == nullptr) return CorruptGif(code);
  const absl::Cleanup close = [gif] { DGifCloseFile(gif, nullptr); };
  int transparent = 0;  // Without one, what the frame leaves free has the first colour.
  IMAGEDDPO_RETURN_IF_ERROR(FindFrame(gif, transparent));
  const GifImageDesc& frame = gif->Image;
  if (frame.Width < 1 || frame.Height < 1 || frame.Left < 0 || frame.Top < 0) {
    return absl::InvalidArgumentError("its first frame has no pixels");
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(RawPicture picture,
                             MakePicture(std::max(gif->SWidth, frame.Left + frame.Width),
                                         std::max(gif->SHeight, frame.Top + frame.Height), 3));
  const Palette palette = PaletteOf(*gif);
  const auto put = [&palette](uint8_t index, uint8_t* pixel) {
    std::copy_n(palette[index].begin(), 3, pixel);
  };
  for (size_t i = 0; i < picture.samples.size(); i += 3) {
    put(static_cast<uint8_t>(transparent), &picture.samples[i]);
  }
  std::vector<GifPixelType> line(static_cast<size_t>(frame.Width));
  for (const size_t y : RowOrder(static_cast<size_t>(frame.Height), frame.Interlace)) {
    if (DGifGetLine(gif, line.data(), frame.Width) != GIF_OK) return CorruptGif(gif->Error);
    uint8_t* row = picture.row(static_cast<size_t>(frame.Top) + y) +
                   size_t{3} * static_cast<size_t>(frame.Left);
    for (size_t x = 0; x < line.size(); ++x) put(line[x], row + 3 * x);
  }
  return picture;
}

}  // namespace imageddpo

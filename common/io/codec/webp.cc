#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>
#include <string>

#include "common/base/status.h"
#include "common/io/codec/orientation.h"
#include "common/io/codec/raw_picture.h"

namespace imageddpo {
namespace {

struct DemuxDeleter {
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};
struct AnimationDeleter {
  void operator()(WebPAnimDecoder* decoder) const { WebPAnimDecoderDelete(decoder); }
};

absl::Status CorruptWebp(VP8StatusCode code) {
  switch (code) {
    case VP8_STATUS_NOT_ENOUGH_DATA:
      return absl::InvalidArgumentError("the file is truncated");
    case VP8_STATUS_OUT_OF_MEMORY:
      return absl::ResourceExhaustedError("there is not enough memory for it");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return absl::InvalidArgumentError("it uses a feature that libwebp does not know");
    default:
      return absl::InvalidArgumentError("its data is corrupt");
  }
}

std::string Chunk(const WebPDemuxer& demuxer, const char* name) {
  WebPChunkIterator chunk{};
  std::string bytes;
  if (WebPDemuxGetChunk(&demuxer, name, 1, &chunk) != 0) {
    bytes.assign(reinterpret_cast<const char*>(chunk.chunk.bytes), chunk.chunk.size);
  }
  WebPDemuxReleaseChunkIterator(&chunk);
  return bytes;
}

/// The canvas after the first frame, without alpha.
absl::Status ReadFirstFrame(const WebPData& data, RawPicture& picture) {
  WebPAnimDecoderOptions options;
  if (WebPAnimDecoderOptionsInit(&options) == 0) return absl::InternalError("libwebp's version");
  options.color_mode = MODE_RGBA;
  const std::unique_ptr<WebPAnimDecoder, AnimationDeleter> decoder(
      WebPAnimDecoderNew(&data, &options));
  uint8_t* rgba = nullptr;
  int milliseconds = 0;
  if (decoder == nullptr || WebPAnimDecoderGetNext(decoder.get(), &rgba, &milliseconds) == 0) {
    return absl::InvalidArgumentError("its first frame is corrupt");
  }
  for (size_t i = 0; i < picture.samples.size(); i += 3, rgba += 4) {
    for (size_t c = 0; c < 3; ++c) picture.samples[i + c] = rgba[c];
  }
  return absl::OkStatus();
}

absl::Status ReadStill(std::string_view bytes, RawPicture& picture) {
  WebPDecoderConfig config;
  if (WebPInitDecoderConfig(&config) == 0) return absl::InternalError("libwebp's version");
  config.output.colorspace = MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = picture.samples.data();
  config.output.u.RGBA.stride = static_cast<int>(picture.row_bytes());
  config.output.u.RGBA.size = picture.samples.size();
  const VP8StatusCode code =
      WebPDecode(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), &config);
  return code == VP8_STATUS_OK ? absl::OkStatus() : CorruptWebp(code);
}

}  // namespace

absl::StatusOr<RawPicture> DecodeWebp(std::string_view bytes) {
  const WebPData data{reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
  WebPBitstreamFeatures features;
  const VP8StatusCode code = WebPGetFeatures(data.bytes, data.size, &features);
  if (code != VP8_STATUS_OK) return CorruptWebp(code);
  IMAGEDDPO_ASSIGN_OR_RETURN(RawPicture picture, MakePicture(features.width, features.height, 3));
  WebPDemuxState state;
  const std::unique_ptr<WebPDemuxer, DemuxDeleter> demuxer(WebPDemuxPartial(&data, &state));
  if (demuxer == nullptr || state == WEBP_DEMUX_PARSE_ERROR) {
    return absl::InvalidArgumentError("its chunks are corrupt");
  }
  if (state != WEBP_DEMUX_DONE) return absl::InvalidArgumentError("the file is truncated");
  IMAGEDDPO_RETURN_IF_ERROR(features.has_animation != 0 ? ReadFirstFrame(data, picture)
                                                        : ReadStill(bytes, picture));
  picture.profile = Chunk(*demuxer, "ICCP");
  picture.orientation = OrientationOf(Chunk(*demuxer, "EXIF"), Chunk(*demuxer, "XMP "));
  return picture;
}

}  // namespace imageddpo

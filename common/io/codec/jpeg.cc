#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

// clang-format off: jpeglib.h needs size_t and FILE from above, jerror.h needs jpeglib.h.
#include <jerror.h>
#include <jpeglib.h>
// clang-format on

#include "common/base/status.h"
#include "common/io/codec/jpeg_errors.h"
#include "common/io/codec/orientation.h"
#include "common/io/codec/raw_picture.h"

// libjpeg reports errors by longjmp. The functions that call setjmp hold only objects that were
// made before it and are destroyed after it, so no destructor is jumped over.
namespace imageddpo {
namespace {

/// A progressive file of a few kilobytes can ask for thousands of scans, hours of work.
constexpr int kMaxScans = 500;
constexpr unsigned kMaxMarkerBytes = 0xFFFF;
constexpr int kExifMarker = JPEG_APP0 + 1;
constexpr int kIccMarker = JPEG_APP0 + 2;
constexpr std::string_view kExifHeader("Exif\0\0", 6);
constexpr std::string_view kXmpHeader("http://ns.adobe.com/xap/1.0/\0", 29);
constexpr std::string_view kIccHeader("ICC_PROFILE\0", 12);
constexpr size_t kIccPartHeader = 14;  // With the part's number and how many there are.

/// libjpeg fills what it cannot read with grey and only warns; for training data that is an error.
void OnMessage(j_common_ptr info, int level) {
  if (level >= 0) return;  // A trace.
  switch (info->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_MUST_RESYNC:
      OnJpegError(info);
    default:
      ++info->err->num_warnings;
  }
}

void OnProgress(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans) return;
  auto* manager = reinterpret_cast<JpegErrorManager*>(info->err);
  std::strncpy(manager->text, "too many progressive scans", JMSG_LENGTH_MAX - 1);
  std::longjmp(manager->jump, 1);
}

class JpegReader {
 public:
  explicit JpegReader(std::string_view bytes) : bytes_(bytes) {
    info_.err = jpeg_std_error(&error_.base);
    error_.base.error_exit = OnJpegError;
    error_.base.emit_message = OnMessage;
  }
  ~JpegReader() { jpeg_destroy_decompress(&info_); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  absl::Status error() const { return absl::InvalidArgumentError(error_.text); }
  int width() const { return static_cast<int>(info_.image_width); }
  int height() const { return static_cast<int>(info_.image_height); }
  int num_components() const { return info_.num_components; }

  bool ReadInfo() {
    if (setjmp(error_.jump) != 0) return false;
    jpeg_create_decompress(&info_);
    progress_.progress_monitor = OnProgress;
    info_.progress = &progress_;
    jpeg_save_markers(&info_, kExifMarker, kMaxMarkerBytes);
    jpeg_save_markers(&info_, kIccMarker, kMaxMarkerBytes);
    jpeg_mem_src(&info_, reinterpret_cast<const unsigned char*>(bytes_.data()), bytes_.size());
    jpeg_read_header(&info_, TRUE);
    return true;
  }

  /// @param samples  width() · height() · num_components() bytes
  bool ReadRows(uint8_t* samples) {
    if (setjmp(error_.jump) != 0) return false;
    if (info_.num_components == 3) {
      info_.out_color_space = JCS_RGB;
    } else {
      info_.out_color_space = info_.num_components == 1 ? JCS_GRAYSCALE : JCS_CMYK;
    }
    jpeg_start_decompress(&info_);
    const size_t row_bytes = static_cast<size_t>(info_.output_components) * info_.output_width;
    while (info_.output_scanline < info_.output_height) {
      JSAMPROW row = samples + row_bytes * info_.output_scanline;
      jpeg_read_scanlines(&info_, &row, 1);
    }
    jpeg_finish_decompress(&info_);
    return true;
  }

  /// Data of the segments of one kind that begin with a header, which stays in front of them; until
  /// ReadRows().
  std::vector<std::string_view> Segments(int marker, std::string_view header) const {
    std::vector<std::string_view> segments;
    for (jpeg_saved_marker_ptr saved = info_.marker_list; saved != nullptr; saved = saved->next) {
      const std::string_view data(reinterpret_cast<const char*>(saved->data), saved->data_length);
      if (saved->marker == marker && data.starts_with(header)) segments.push_back(data);
    }
    return segments;
  }

 private:
  std::string_view bytes_;
  JpegErrorManager error_{};
  jpeg_progress_mgr progress_{};
  jpeg_decompress_struct info_{};
};

/// A profile that is longer than a segment comes in numbered parts.
std::string ProfileOf(const JpegReader& reader) {
  std::vector<std::string_view> parts = reader.Segments(kIccMarker, kIccHeader);
  std::erase_if(parts, [](std::string_view part) { return part.size() < kIccPartHeader; });
  std::sort(parts.begin(), parts.end());
  std::string profile;
  if (parts.empty() || static_cast<uint8_t>(parts[0][kIccPartHeader - 1]) != parts.size())
    return profile;
  for (const std::string_view part : parts) profile += part.substr(kIccPartHeader);
  return profile;
}

int Orientation(const JpegReader& reader) {
  std::string exif;  // A block longer than a segment goes on in the next.
  for (const std::string_view part : reader.Segments(kExifMarker, kExifHeader)) {
    exif += part.substr(kExifHeader.size());
  }
  const std::vector<std::string_view> packets = reader.Segments(kExifMarker, kXmpHeader);
  return OrientationOf(exif, packets.empty() ? "" : packets.back().substr(kXmpHeader.size()));
}

}  // namespace

absl::StatusOr<RawPicture> DecodeJpeg(std::string_view bytes) {
  JpegReader reader(bytes);
  if (!reader.ReadInfo()) return reader.error();
  const int channels = reader.num_components();
  if (channels != 1 && channels != 3 && channels != 4) {
    return absl::InvalidArgumentError("it has neither one, three nor four components");
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(RawPicture picture,
                             MakePicture(reader.width(), reader.height(), channels));
  picture.profile = ProfileOf(reader);
  picture.orientation = Orientation(reader);
  if (!reader.ReadRows(picture.samples.data())) return reader.error();
  if (channels == 4) {  // Ink is stored inverted, as Adobe does.
    for (uint8_t& sample : picture.samples) sample = static_cast<uint8_t>(255 - sample);
  }
  return picture;
}

}  // namespace imageddpo

#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"

namespace imageddpo {

// Each function has a form on a given FileSystem and, where both exist, a short form on the real
// disk.

/// Of a file that people write or a program writes once: settings, configs of models, vocabularies,
/// tokens.
inline constexpr size_t kMostFileBytes = size_t{64} << 20;
/// Of a file with a line for each image.
inline constexpr size_t kMostListFileBytes = size_t{4} << 30;

/// @param most_bytes  INVALID_ARGUMENT, before anything is read: the file is larger.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t most_bytes = kMostFileBytes);

/// The first bytes of a file, as many as there are up to `bytes`, and the size of all of it.
struct FileHead {
  std::string bytes;
  size_t file_bytes = 0;
};
absl::StatusOr<FileHead> ReadFileHead(const std::string& path, size_t bytes);

/// Readers see the old file or the whole new one, also after a crash or power cut: temporary name
/// in the same directory, write, sync, rename, sync of the directory. After an error the temporary
/// is gone and the old file intact; only where the last step failed the new one stands in its
/// place, which a power cut could still undo.
absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes);
absl::Status WriteFileAtomically(FileSystem& file_system, const std::string& path,
                                 std::string_view bytes);

/// Writes many files of one directory, each of which appears whole or not at all, with one sync of
/// the directory for all: much faster than one after the other. Files that have the names already
/// are replaced. After an error some of them may be there.
/// @param files  names without directories, and contents.
absl::Status WriteFilesAtomically(FileSystem& file_system, const std::string& directory,
                                  const std::vector<std::pair<std::string, std::string>>& files);

/// Appends `line` and a newline in one write, creating the file when missing. Not synced. A line
/// must not contain a newline.
absl::Status AppendLine(const std::string& path, std::string_view line);
absl::Status AppendLine(FileSystem& file_system, const std::string& path, std::string_view line);

/// Makes what was appended to a file durable. OK if the file does not exist.
absl::Status SyncFile(const std::string& path);

/// Like mkdir -p. OK when the directory exists.
absl::Status MakeDirectories(const std::string& path);
absl::Status MakeDirectories(FileSystem& file_system, const std::string& path);

/// Names in a directory, sorted by bytes.
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path);

/// Removes what a crash left behind in `directory`: names that WriteFileAtomically and
/// AtomicDirectory use for temporaries. Only for the one owner of the directory, while it writes
/// nothing there.
absl::Status RemoveTemporaries(FileSystem& file_system, const std::string& directory);
bool IsTemporaryName(std::string_view name);

/// SHA-256 as 64 lower-case hexadecimal digits.
std::string Sha256Hex(std::string_view bytes);

/// A directory that appears whole or not at all. Files are written, in the order of the calls, into
/// a temporary directory beside the final one; Commit() syncs and renames. Dropped without a
/// Commit(), it leaves nothing behind.
class AtomicDirectory {
 public:
  /// @param file_system  must outlive the object.
  static absl::StatusOr<AtomicDirectory> Create(FileSystem& file_system,
                                                const std::string& final_path);

  ~AtomicDirectory();
  AtomicDirectory(AtomicDirectory&& other) noexcept;
  AtomicDirectory& operator=(AtomicDirectory&&) = delete;
  AtomicDirectory(const AtomicDirectory&) = delete;

  /// A new file `name` (no directories in it), synced.
  absl::Status Write(const std::string& name, std::string_view bytes);

  /// ALREADY_EXISTS when the final path is taken by a file or a directory with something in it.
  absl::Status Commit();
  /// Moves what is there out of the way first and removes it last. A crash between leaves the new
  /// directory or none, so the caller must have an older state to fall back to.
  absl::Status CommitReplacing();

  const std::string& temporary_path() const { return temporary_path_; }

 private:
  AtomicDirectory(FileSystem& file_system, std::string final_path, std::string temporary_path);

  FileSystem* file_system_;
  std::string final_path_;
  std::string temporary_path_;  // Empty once committed or moved from.
};

/// The absolute path, every symbolic link resolved, of `path` (taken from `base_dir` when
/// relative), which need not exist. PERMISSION_DENIED, naming path and roots, when it does not lie
/// in one of `roots` (themselves resolved); INVALID_ARGUMENT for an empty path, a zero byte or a
/// loop of links. The answer holds for the moment of the call: who can change directories under a
/// root can change it afterwards.
absl::StatusOr<std::string> ResolveUnderRoots(const std::string& path, const std::string& base_dir,
                                              const std::vector<std::string>& roots);

}  // namespace imageddpo

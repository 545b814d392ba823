#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "imageddpo/v1/service.pb.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {

// What jobs have on disk. Reads and removes files on the caller's thread, beside the controller,
// which writes meanwhile: a file that goes while a folder is listed is left out. May be called by
// any thread.

/// See TrainerService.ListCheckpoints.
absl::StatusOr<v1::ListCheckpointsResponse> ListCheckpoints(const JobStore& store,
                                                            const std::string& job_id);

/// See TrainerService.ListArtifacts. Files that are being written are left out.
absl::StatusOr<v1::ListArtifactsResponse> ListArtifacts(const JobStore& store,
                                                        const v1::ListArtifactsRequest& request);

/// The names in ListArtifacts of the files below one folder of a job's, sorted.
std::vector<std::string> ArtifactNamesIn(const JobStore& store, const std::string& job_id,
                                         const std::string& folder);

/// Sizes of all files below a folder, hidden ones too; 0: there is none.
int64_t BytesBelow(const std::string& folder);

/// Removes the folder of a job that JobService::Delete() has deleted.
/// @return what was freed. An error names what could not be removed; it is tried again at the next
///         start of the service.
absl::StatusOr<v1::DeleteJobResponse> RemoveDeletedFolder(const JobStore& store,
                                                          const std::string& job_id);

/// Removes the folders of deleted jobs that are still there, because the service died meanwhile.
/// Call it at the start.
void RemoveDeletedFolders(const JobStore& store);

}  // namespace imageddpo

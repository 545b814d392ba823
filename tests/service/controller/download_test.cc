// DownloadArtifact of the real service.

#include <filesystem>

#include "common/io/file.h"
#include "gmock/gmock.h"
#include "tests/service/controller/service_fixture.h"
#include "trainer/controller/streams/downloads.h"

namespace imageddpo {
namespace {

using ::testing::HasSubstr;

class DownloadArtifactTest : public ServiceTest {
 protected:
  struct Answer {
    grpc::Status status;
    std::string data;
    std::string sha256;
    int64_t size_bytes = -1;
    size_t parts = 0;
  };

  DownloadArtifactTest() {
    Start();
    id_ = WaitFor(MustSubmit(JobOf(2)).id(), v1::SUCCEEDED).id();
    for (uint64_t i = 0; i < 600'000; ++i) big_.push_back(static_cast<char>(i * 7919 >> 5));
    dir_.Write(Path("samples/big.bin"), big_);
  }

  std::string Path(const std::string& name) const { return "data/jobs/" + id_ + "/" + name; }

  v1::DownloadArtifactRequest RequestOf(const std::string& name, int64_t offset = 0,
                                        int64_t limit = 0) const {
    v1::DownloadArtifactRequest request;
    request.set_id(id_);
    request.set_name(name);
    request.set_offset(offset);
    request.set_limit(limit);
    return request;
  }

  Answer Download(const v1::DownloadArtifactRequest& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    const auto reader = stub().DownloadArtifact(&context, request);
    Answer answer;
    for (v1::DownloadArtifactResponse part; reader->Read(&part); ++answer.parts) {
      EXPECT_EQ(part.offset(), request.offset() + static_cast<int64_t>(answer.data.size()));
      EXPECT_LE(part.data().size(), 256U << 10);
      answer.data += part.data();
      answer.sha256 = part.sha256();
      answer.size_bytes = part.size_bytes();
    }
    answer.status = reader->Finish();
    return answer;
  }
  grpc::StatusCode CodeOf(const std::string& name) {
    return Download(RequestOf(name)).status.error_code();
  }

  std::string id_;
  std::string big_;
};

TEST_F(DownloadArtifactTest, EveryListedFileComesWhole) {
  grpc::ClientContext context;
  v1::ListArtifactsRequest list;
  list.set_id(id_);
  v1::ListArtifactsResponse files;
  ASSERT_TRUE(stub().ListArtifacts(&context, list, &files).ok());
  ASSERT_GE(files.artifacts_size(), 5);  // job.yaml, rows, a checkpoint, the big file.
  for (const v1::Artifact& file : files.artifacts()) {
    const Answer answer = Download(RequestOf(file.name()));
    ASSERT_TRUE(answer.status.ok()) << file.name() << ": " << answer.status.error_message();
    EXPECT_EQ(answer.data, ReadJobFile(id_, file.name())) << file.name();
    EXPECT_EQ(answer.size_bytes, file.size_bytes());
    EXPECT_EQ(answer.sha256, Sha256Hex(answer.data));
  }
  EXPECT_EQ(Download(RequestOf("samples/big.bin")).parts, 3U);
}

TEST_F(DownloadArtifactTest, ARangeIsSentAndTheHashIsOfTheWhole) {
  const std::string sha256 = Sha256Hex(big_);
  const Answer rest = Download(RequestOf("samples/big.bin", 500'001));
  EXPECT_EQ(rest.data, big_.substr(500'001));
  EXPECT_EQ(rest.sha256, sha256);
  const Answer middle = Download(RequestOf("samples/big.bin", 5, 300'000));
  EXPECT_EQ(middle.data, big_.substr(5, 300'000));
  EXPECT_EQ(middle.sha256, "");
  EXPECT_EQ(middle.size_bytes, 600'000);
  const Answer none = Download(RequestOf("samples/big.bin", 600'000));
  EXPECT_EQ(none.parts, 1U);
  EXPECT_EQ(none.data, "");
  EXPECT_EQ(none.sha256, sha256);
  dir_.Write(Path("samples/empty"), "");
  const Answer empty = Download(RequestOf("samples/empty"));
  EXPECT_TRUE(empty.status.ok());
  EXPECT_EQ(empty.sha256, Sha256Hex(""));
}

TEST_F(DownloadArtifactTest, OnlyFilesOfTheJobAreSent) {
  dir_.Write("secret.txt", "secret");
  namespace fs = std::filesystem;
  fs::create_symlink(dir_ / "secret.txt", dir_ / Path("samples/link.txt"));
  fs::create_directory_symlink(dir_.path(), dir_ / Path("linked"));
  dir_.Write(Path(".hidden/file"), "being written");
  using grpc::StatusCode;
  EXPECT_EQ(CodeOf("samples/link.txt"), StatusCode::NOT_FOUND);
  EXPECT_EQ(CodeOf("linked/secret.txt"), StatusCode::NOT_FOUND);
  EXPECT_EQ(CodeOf("samples"), StatusCode::NOT_FOUND);
  EXPECT_EQ(CodeOf("samples/none.txt"), StatusCode::NOT_FOUND);
  EXPECT_EQ(CodeOf("job.yaml/none"), StatusCode::NOT_FOUND);
  for (const std::string& name :
       {std::string("../../../secret.txt"), dir_ / "secret.txt", std::string(),
        std::string("samples//big.bin"), std::string(".hidden/file"), std::string("./job.yaml")}) {
    EXPECT_EQ(CodeOf(name), StatusCode::INVALID_ARGUMENT) << name;
  }
  EXPECT_EQ(Download(RequestOf("job.yaml", -1)).status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Download(RequestOf("job.yaml", 0, -1)).status.error_code(),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Download(RequestOf("job.yaml", 1 << 20)).status.error_code(), StatusCode::OUT_OF_RANGE);
  v1::DownloadArtifactRequest other = RequestOf("job.yaml");
  other.set_id("job-000077");
  EXPECT_EQ(Download(other).status.error_code(), StatusCode::NOT_FOUND);
}

TEST_F(DownloadArtifactTest, SlowReadersHaveALimitAndHoldUpNobody) {
  // More than a connection buffers, so that a call whose reader does nothing stays under way.
  dir_.Write(Path("samples/huge.bin"), std::string(64 << 20, 'h'));
  struct Slow {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::DownloadArtifactResponse>> reader;
  };
  std::vector<std::unique_ptr<Slow>> slow;
  for (int i = 0; i < Downloads::kMaxPerCaller; ++i) {
    slow.push_back(std::make_unique<Slow>());
    slow.back()->reader =
        stub().DownloadArtifact(&slow.back()->context, RequestOf("samples/huge.bin"));
    v1::DownloadArtifactResponse part;
    ASSERT_TRUE(slow.back()->reader->Read(&part));  // It has its place.
  }
  const Answer refused = Download(RequestOf("job.yaml"));
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("16 calls of yours of DownloadArtifact"));
  EXPECT_EQ(Get(id_).state(), v1::SUCCEEDED) << "others are served";
  for (const auto& call : slow) {
    call->context.TryCancel();
    for (v1::DownloadArtifactResponse part; call->reader->Read(&part);) {
    }
    EXPECT_EQ(call->reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  grpc::StatusCode code = grpc::StatusCode::RESOURCE_EXHAUSTED;
  for (int i = 0; i < 400 && code == grpc::StatusCode::RESOURCE_EXHAUSTED; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    code = CodeOf("job.yaml");
  }
  EXPECT_EQ(code, grpc::StatusCode::OK);
}

}  // namespace
}  // namespace imageddpo

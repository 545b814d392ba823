/// Checks the layout of the source tree: includes, folders, files. First tests the checker itself
/// on small made-up trees, then runs it on the real tree.

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/structure/source_tree.h"

namespace imageddpo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Including(const std::string& path) { return "#include \"" + path + "\"\n"; }

TEST(LayerViolations, LowerLayersAndTheOwnPartMayBeIncluded) {
  const SourceTree tree = {
      {"common/base/status.h", ""},
      {"common/io/file.h", Including("common/base/status.h")},
      {"common/trajectory/record/record.h", Including("common/io/file.h")},
      {"rollout/data/dataset.h", ""},
      {"rollout/worker/rank.cc",
       Including("rollout/data/dataset.h") + Including("common/trajectory/record/record.h") +
           Including("imageddpo/v1/job.pb.h") + Including("absl/status/status.h")},
      {"deploy/imageddpod/main.cc", Including("rollout/data/dataset.h")},
      {"common/comm/mpi/gang.cc", Including("common/comm/mailbox/mailbox.h")},
      {"common/comm/mailbox/mailbox.h", ""},
      {"tests/unit/io/file_test.cc", Including("common/io/file.h")},
  };
  EXPECT_THAT(LayerViolations(tree), IsEmpty());
}

TEST(LayerViolations, NamesFileAndInclude) {
  const SourceTree upwards = {{"common/base/a.cc", Including("common/io/b.h")},
                              {"common/io/b.h", ""}};
  EXPECT_THAT(LayerViolations(upwards),
              ElementsAre("common/base/a.cc includes common/io/b.h: common/base must not depend on "
                          "common/io"));
  const SourceTree across = {{"trainer/loop/a.cc", Including("rollout/data/b.h")},
                             {"rollout/data/b.h", ""}};
  EXPECT_THAT(LayerViolations(across), ElementsAre(HasSubstr("must not depend on rollout/data")));
  const SourceTree siblings = {{"common/config/a.cc", Including("common/io/b.h")},
                               {"common/io/b.h", ""}};
  EXPECT_THAT(LayerViolations(siblings), ElementsAre(HasSubstr("must not depend on common/io")));
  const SourceTree test_code = {{"trainer/loop/a.cc", Including("tests/testing/b.h")},
                                {"tests/testing/b.h", ""}};
  EXPECT_THAT(LayerViolations(test_code), ElementsAre(HasSubstr("must not depend on tests")));
}

TEST(LayerViolations, RoomsOfAHouseHaveAnOrder) {
  EXPECT_THAT(LayerViolations({{"common/comm/mailbox/a.cc", Including("common/comm/mpi/b.h")},
                               {"common/comm/mpi/b.h", ""}}),
              ElementsAre(HasSubstr("common/comm/mailbox must not depend on common/comm/mpi")));
  EXPECT_THAT(LayerViolations({{"trainer/controller/api/a.cc", Including("trainer/controller/b.h")},
                               {"trainer/controller/b.h", ""}}),
              ElementsAre(HasSubstr("must not depend on trainer/controller")));
  EXPECT_THAT(LayerViolations({{"trainer/controller/jobs/a.cc", Including("trainer/algo/b.h")},
                               {"trainer/algo/b.h", ""}}),
              ElementsAre(HasSubstr("trainer/controller/jobs must not depend on trainer/algo")));
}

TEST(LayerViolations, NamesFoldersWithoutALayerAndFilesThatAreNotThere) {
  EXPECT_THAT(LayerViolations({{"common/utils/a.h", ""}}),
              ElementsAre(HasSubstr("common/utils stands in no layer")));
  EXPECT_THAT(LayerViolations({{"common/io/a.cc", Including("common/io/gone.h")}}),
              ElementsAre(HasSubstr("common/io/gone.h, which is no file")));
}

TEST(TestCodeInDeploy, NamesHeadersThatTestsAloneInclude) {
  const SourceTree tree = {
      {"deploy/trace/trace.h", ""},
      {"deploy/trace/main.cc", Including("deploy/trace/trace.h")},
      {"deploy/trace/cases.h", ""},
      {"deploy/trace/cases.cc", Including("deploy/trace/cases.h")},
      {"tests/unit/a_test.cc",
       Including("deploy/trace/trace.h") + Including("deploy/trace/cases.h")},
  };
  EXPECT_THAT(TestCodeInDeploy(tree), ElementsAre(HasSubstr("deploy/trace/cases.h")));
}

TEST(FolderViolations, NamesFullFoldersAndThoseWithoutASentence) {
  const SourceTree tree = {
      {"common/base/CMakeLists.txt", "# What everything stands on.\n"},
      {"common/base/status.h", ""},
      {"common/io/CMakeLists.txt", "imageddpo_library(NAME common_io SOURCES file.cc)\n"},
      {"common/io/file.cc", ""},
      {"common/nn/layers.cc", ""},
  };
  EXPECT_THAT(FolderViolations(tree, {{"common/base", 30}, {"tests/data", 31}}),
              ElementsAre(HasSubstr("tests/data has 31 files"),
                          HasSubstr("common/io/CMakeLists.txt does not begin"),
                          HasSubstr("common/nn has no CMakeLists.txt")));
}

TEST(TorchAndGrpcTogether, SeesThroughHeadersOfTheTree) {
  const SourceTree tree = {
      {"common/io/tensor.h", "#include <ATen/core/Tensor.h>\n"},
      {"common/io/apart.cc", "#include <grpcpp/server.h>\n"},
      {"trainer/controller/api/api.cc",
       "#include <grpcpp/server.h>\n" + Including("common/io/tensor.h")},
  };
  EXPECT_THAT(TorchAndGrpcTogether(tree), ElementsAre(HasSubstr("trainer/controller/api/api.cc")));
}

TEST(FormViolations, CatchesEachRule) {
  std::string long_file;
  for (int line = 0; line < 401; ++line) {
    long_file += "\n";
  }
  EXPECT_THAT(FormViolations({{"a.cc", long_file}}), ElementsAre(HasSubstr("401 lines")));
  EXPECT_THAT(FormViolations({{"a.h", "int x;\n"}}), ElementsAre(HasSubstr("#pragma once")));
  EXPECT_THAT(FormViolations({{"a.h", "#pragma once\n\n#ifdef USE_CUDA\n#endif\n"}}),
              ElementsAre(HasSubstr("conditional")));
  EXPECT_THAT(FormViolations({{"a.cc", "#include <torch/torch.h>\n"}}),
              ElementsAre(HasSubstr("torch/torch.h")));
}

/// The whole repository.
class RealTree : public testing::Test {
 protected:
  void SetUp() override {
    const char* const root = std::getenv("IMAGEDDPO_SOURCE_DIR");
    tree_ = ReadSourceTree(root != nullptr ? root : ".");
    files_of_folders_ = CountFiles(root != nullptr ? root : ".");
    ASSERT_TRUE(tree_.contains("common/base/status.h")) << "run from the repository's root";
  }
  SourceTree tree_;
  std::map<std::string, int> files_of_folders_;
};

TEST_F(RealTree, IncludesGoOneWay) { EXPECT_THAT(LayerViolations(tree_), IsEmpty()); }

TEST_F(RealTree, TorchAndGrpcStayInSeparateTranslationUnits) {
  EXPECT_THAT(TorchAndGrpcTogether(tree_), IsEmpty());
}

TEST_F(RealTree, NothingInDeployIsThereForTestsAlone) {
  EXPECT_THAT(TestCodeInDeploy(tree_), IsEmpty());
}

TEST_F(RealTree, FoldersAreRooms) {
  EXPECT_THAT(FolderViolations(tree_, files_of_folders_), IsEmpty());
}

TEST_F(RealTree, FilesKeepTheForm) { EXPECT_THAT(FormViolations(tree_), IsEmpty()); }

}  // namespace
}  // namespace imageddpo

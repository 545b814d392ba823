// Messages of workers and of rank 0 as they come off the transport, with the blobs behind them.
#include "common/comm/frame.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "common/comm/valid_texts.h"
#include "imageddpo/v1/control.pb.h"
#include "tests/fuzz/inputs.h"

namespace imageddpo::fuzz {
namespace {

/// Small, so that small inputs have blobs of several chunks.
constexpr FrameLimits kLimits = {.blob_bytes = 8, .chunk_bytes = 16};

/// The same bytes for equal messages, maps included.
std::string BytesOf(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  Require(message.SerializeToCodedStream(&coded), "a message can be written");
  coded.Trim();
  return bytes;
}

template <typename MessageType>
void ReadAs(std::string_view frame) {
  MessageType message;
  if (!FromFrame(frame, &message).ok()) return;
  const std::string bytes = BytesOf(message);
  MakeTextsValid(&message);
  Require(BytesOf(message) == bytes, "what was parsed has valid texts");
  const auto sent = ToFrame(&message, kLimits);
  Require(sent.ok(), "what was read can be sent");
  MessageType again;
  Require(FromFrame(*sent, &again).ok(), "what was sent can be read");
  Require(BytesOf(again) == bytes, "it is the same message");
}

}  // namespace

std::vector<std::string> MadeSeeds() {
  v1::WorkerMessage checkpoint;
  checkpoint.mutable_checkpoint()->set_job_id("job-000001");
  checkpoint.mutable_checkpoint()->set_epoch(3);
  checkpoint.mutable_checkpoint()->set_lora(std::string(40, 'l'));
  checkpoint.mutable_checkpoint()->set_optimizer(std::string(16, 'o'));
  checkpoint.mutable_checkpoint()->set_state("{}");
  v1::WorkerMessage epoch;
  epoch.mutable_epoch()->set_job_id("job-000001");
  epoch.mutable_epoch()->add_metrics_rows("{\"epoch\": 1}");
  (*epoch.mutable_epoch()->mutable_metrics()->mutable_parts_mean())["jpeg.value"] = 0.5;
  for (const char* name : {"0-input.png", "0-output.png"}) {
    auto* picture = epoch.mutable_epoch()->add_pictures();
    picture->set_name(name);
    picture->set_data(std::string(20, 'p'));
  }
  std::vector<std::string> seeds;
  for (v1::WorkerMessage* message : {&checkpoint, &epoch}) {
    const auto frame = ToFrame(message, kLimits);
    Require(frame.ok(), "a message can be sent");
    seeds.push_back(*frame);
  }
  return seeds;
}

void Read(std::string_view input) {
  ReadAs<v1::WorkerMessage>(input);
  ReadAs<v1::ControllerMessage>(input);
}

}  // namespace imageddpo::fuzz

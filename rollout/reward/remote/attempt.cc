#include "rollout/reward/remote/attempt.h"

#include <google/protobuf/io/coded_stream.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/slice.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "common/base/status.h"

namespace imageddpo {
namespace {

using std::chrono::steady_clock;

constexpr uint32_t kLengthDelimited = 2;  // Protobuf's wire type of bytes.

/// Appends a field of type bytes: its tag and length, then the bytes themselves.
void AddBytesField(int number, const SharedBytes& field, std::vector<grpc::Slice>* slices) {
  if (field.bytes.empty()) return;
  using google::protobuf::io::CodedOutputStream;
  std::array<uint8_t, 20> head{};  // Two varints of at most 10 bytes.
  uint8_t* end = CodedOutputStream::WriteVarint32ToArray(
      (static_cast<uint32_t>(number) << 3) | kLengthDelimited, head.data());
  end = CodedOutputStream::WriteVarint64ToArray(field.bytes.size(), end);
  slices->emplace_back(head.data(), static_cast<size_t>(end - head.data()));
  auto* const owner = new std::shared_ptr<const void>(field.owner);
  // gRPC does not write to what it sends.
  slices->emplace_back(
      const_cast<char*>(field.bytes.data()), field.bytes.size(),
      [](void* kept) { delete static_cast<std::shared_ptr<const void>*>(kept); }, owner);
}

}  // namespace

grpc::ByteBuffer Serialized(const google::protobuf::Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return {&slice, 1};
}

grpc::ByteBuffer WithPixels(const v1::ScoreRequest& request, const SharedBytes& generated,
                            const SharedBytes& inputs, const SharedBytes& targets) {
  std::vector<grpc::Slice> slices = {grpc::Slice(request.SerializeAsString())};
  AddBytesField(v1::ScoreRequest::kGeneratedFieldNumber, generated, &slices);
  AddBytesField(v1::ScoreRequest::kInputsFieldNumber, inputs, &slices);
  AddBytesField(v1::ScoreRequest::kTargetsFieldNumber, targets, &slices);
  return {slices.data(), slices.size()};
}

Attempt::Attempt(std::shared_ptr<Replicas> replicas, size_t replica, const std::string& method,
                 const grpc::ByteBuffer& request, std::chrono::milliseconds timeout)
    : replicas_(std::move(replicas)), call_(std::make_unique<CallState>()), replica_(replica) {
  call_->request = request;
  call_->context.set_deadline(std::chrono::system_clock::now() + timeout);
  const std::string& token = replicas_->token();
  if (!token.empty()) call_->context.AddMetadata("authorization", "Bearer " + token);
  replicas_->stub(replica).UnaryCall(
      &call_->context, method, grpc::StubOptions(), &call_->request, &call_->answer,
      [call = call_.get(), start = steady_clock::now()](const grpc::Status& status) {
        call->status = status;
        call->seconds = std::chrono::duration<double>(steady_clock::now() - start).count();
        call->ended.Notify();  // The last use of it here.
      });
}

Attempt::~Attempt() {
  if (!call_->ended.HasBeenNotified()) replicas_->Abandon(std::move(call_));
}

absl::Status Attempt::Await(steady_clock::time_point deadline, const std::string& waiting_for,
                            const WaitWatch& watch) {
  while (true) {
    const auto left = deadline - steady_clock::now();
    const auto slice =
        std::clamp<steady_clock::duration>(left, steady_clock::duration::zero(), kWatchInterval);
    if (call_->ended.WaitForNotificationWithTimeout(absl::FromChrono(slice))) {
      return absl::OkStatus();
    }
    if (left <= kWatchInterval) return absl::DeadlineExceededError("no answer yet");
    IMAGEDDPO_RETURN_IF_ERROR(watch(waiting_for));
  }
}

bool Attempt::ParseAnswer(google::protobuf::Message* message) {
  grpc::ProtoBufferReader reader(&call_->answer);
  return reader.status().ok() && message->ParseFromZeroCopyStream(&reader);
}

std::string Attempt::AnswerBytes() const {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!call_->answer.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

}  // namespace imageddpo

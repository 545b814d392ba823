#!/usr/bin/env bash
# Stores the released form of the public protos in v1.binpb (a FileDescriptorSet), which
# tests/unit/config/compatibility_test.cc compares with today's. Run it when fields, messages, enum values or methods were
# added, and commit the result: from then on they keep their meaning. What is removed must be reserved.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
protoc --proto_path=proto --descriptor_set_out=tests/data/proto/v1.binpb \
  imageddpo/v1/cluster.proto imageddpo/v1/job.proto imageddpo/v1/metrics.proto imageddpo/v1/reward.proto \
  imageddpo/v1/service.proto

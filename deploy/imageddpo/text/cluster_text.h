#pragma once

#include <string>

#include "imageddpo/v1/service.pb.h"

namespace imageddpo {

/// A line per rank under headings, then whether the service is well and how many ranks are free.
std::string ClusterTable(const v1::Cluster& cluster);

}  // namespace imageddpo

#include "common/comm/nccl/grant_scheduler.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace imageddpo {
namespace {

using GrantKind = GrantMessage::Kind;

// Most transfers of one round between two ranks.
constexpr std::size_t kMaxTransfersOfARound = 64;

/// Why the two ends of an operation do not match; empty if they do.
std::string Mismatch(int rank, const OperationSpec& spec, int other_rank,
                     const OperationSpec& other) {
  if (spec.collective() && (spec.kind != other.kind || spec.peer != other.peer)) {
    return absl::StrCat("ranks ", rank, " and ", other_rank,
                        " disagree on which collective it is, or on its root");
  }
  if (spec.dtype != other.dtype) {
    return absl::StrCat("ranks ", rank, " and ", other_rank, " disagree on what is sent: formats ",
                        spec.dtype, " and ", other.dtype);
  }
  if (spec.size_bytes != other.size_bytes) {
    return absl::StrCat("rank ", rank, " has ", spec.size_bytes, " bytes, rank ", other_rank,
                        " has ", other.size_bytes);
  }
  return "";
}

[[noreturn]] void ThrowUnexpected(int from, const GrantMessage& message) {
  throw CommError(
      CommError::Kind::kTransport,
      absl::StrCat("rank ", from, " sent a message of kind ", static_cast<int>(message.kind),
                   " that does not fit; do all ranks run the same build?"));
}

}  // namespace

void GrantScheduler::Post(OperationId id, const OperationSpec& spec) {
  posted_[id] = spec;
  if (spec.collective()) {
    const int coordinator = spec.participants.front();
    if (rank_ == coordinator) {
      AddCollective(rank_, {id, spec});
    } else {
      host_->SendGrant(coordinator, {.kind = GrantKind::kReady,
                                     .participants = spec.participants,
                                     .operations = {id},
                                     .spec = spec});
    }
  } else if (spec.peer < rank_) {
    host_->SendGrant(spec.peer, {.kind = GrantKind::kReady, .operations = {id}, .spec = spec});
  } else {
    // Both ends of a transfer to oneself are on this rank.
    const bool is_mine = spec.peer > rank_ || spec.kind == OperationSpec::Kind::kSend;
    const bool towards = spec.peer == rank_ || spec.kind == OperationSpec::Kind::kSend;
    AddOffer(spec.peer, towards, is_mine, {id, spec});
  }
  Advance();
}

void GrantScheduler::AddOffer(int peer, bool towards_peer, bool is_mine, const Offer& offer) {
  const LaneKey key{peer, towards_peer, offer.spec.tag};
  Lane& lane = lanes_[key];
  (is_mine ? lane.mine : lane.theirs).push_back(offer);
  if (lane.mine.empty() || lane.theirs.empty()) {
    return;
  }
  const Offer mine = lane.mine.front();
  const Offer theirs = lane.theirs.front();
  lane.mine.pop_front();
  lane.theirs.pop_front();
  if (lane.mine.empty() && lane.theirs.empty()) {
    lanes_.erase(key);
  }
  if (const std::string why = Mismatch(rank_, mine.spec, peer, theirs.spec); !why.empty()) {
    Refuse(mine.id, why);
    if (peer == rank_) {
      Refuse(theirs.id, why);
    } else {
      host_->SendGrant(peer, {.kind = GrantKind::kRefused, .operations = {theirs.id}, .text = why});
    }
    return;
  }
  auto& matches = matches_[peer];
  matches.push_back({mine.id, theirs.id, mine.spec.size_bytes});
  if (matches.size() == 1) {
    candidates_.push_back({.kind = Candidate::Kind::kPair, .peer = peer});
  }
}

void GrantScheduler::AddCollective(int from, const Offer& offer) {
  const GroupKey key{offer.spec.participants, offer.spec.tag};
  const std::vector<std::int32_t>& ranks = key.first;
  auto& ready = collectives_[key];
  ready[from].push_back(offer);
  if (ready.size() < ranks.size()) {
    return;
  }
  const OperationSpec mine = ready.at(rank_).front().spec;
  std::vector<OperationId> ids;
  std::string why;
  for (const std::int32_t rank : ranks) {
    const auto offers = ready.find(rank);
    const Offer& theirs = offers->second.front();
    ids.push_back(theirs.id);
    why = why.empty() ? Mismatch(rank_, mine, rank, theirs.spec) : why;
    offers->second.pop_front();
    if (offers->second.empty()) {
      ready.erase(offers);
    }
  }
  if (ready.empty()) {
    collectives_.erase(key);
  }
  if (why.empty()) {
    candidates_.push_back(
        {.kind = Candidate::Kind::kCollective,
         .ask = {.kind = GrantKind::kAsk, .participants = ranks, .operations = ids, .spec = mine}});
    return;
  }
  Refuse(ids.front(), why);
  for (std::size_t i = 1; i < ranks.size(); ++i) {
    host_->SendGrant(ranks[i], {.kind = GrantKind::kRefused, .operations = {ids[i]}, .text = why});
  }
}

std::vector<GrantScheduler::OperationId> GrantScheduler::OperationsOf(
    const GrantMessage& ask) const {
  const auto& ranks = ask.participants;
  const auto self = std::find(ranks.begin(), ranks.end(), rank_);
  if (self == ranks.end()) {
    return {};
  }
  std::vector<OperationId> operations = ask.operations;
  if (ask.spec.collective()) {
    if (operations.size() != ranks.size()) {
      return {};
    }
    operations = {operations[static_cast<std::size_t>(self - ranks.begin())]};
  }
  const bool all_known = std::all_of(operations.begin(), operations.end(),
                                     [this](OperationId id) { return posted_.contains(id); });
  return all_known ? operations : std::vector<OperationId>();
}

void GrantScheduler::OnMessage(int from, const GrantMessage& message) {
  const bool names_operation = !message.operations.empty();
  switch (message.kind) {
    case GrantKind::kReady: {
      OperationSpec spec = message.spec;
      spec.participants = message.participants;
      const auto& ranks = spec.participants;
      const bool takes_part = std::find(ranks.begin(), ranks.end(), from) != ranks.end();
      if (!names_operation || from <= rank_ || (!spec.collective() && spec.peer != rank_) ||
          (spec.collective() && (!takes_part || ranks.front() != rank_))) {
        ThrowUnexpected(from, message);
      }
      if (spec.collective()) {
        AddCollective(from, {message.operations[0], spec});
      } else {
        AddOffer(from, spec.kind == OperationSpec::Kind::kRecv, false,
                 {message.operations[0], spec});
      }
      break;
    }
    case GrantKind::kAsk:
      if (OperationsOf(message).empty()) {
        ThrowUnexpected(from, message);
      }
      candidates_.push_back({.kind = Candidate::Kind::kAsk, .ask = message});
      break;
    case GrantKind::kGo:
      if (!current_.has_value() || current_->running || current_->round.number != message.round ||
          current_->round.participants != message.participants) {
        ThrowUnexpected(from, message);
      }
      Run();
      break;
    case GrantKind::kDone:
      OnDone(from, message);
      break;
    case GrantKind::kEnd:
      if (!over_.contains({from, message.round})) {
        ThrowUnexpected(from, message);
      }
      CompleteRound({from, message.round});
      break;
    case GrantKind::kRefused:
      for (const OperationId id : message.operations) {
        Refuse(id, message.text);
      }
      break;
  }
  Advance();
}

void GrantScheduler::Advance() {
  while (!current_.has_value() && !candidates_.empty()) {
    Candidate candidate = std::move(candidates_.front());
    candidates_.pop_front();
    current_ = Begin(std::move(candidate));
    AskNextOrGo();
  }
}

GrantScheduler::Current GrantScheduler::Begin(Candidate candidate) {
  Current current;
  Round& round = current.round;
  if (candidate.kind == Candidate::Kind::kAsk) {
    current.ask = std::move(candidate.ask);
    round = {.number = current.ask.round,
             .participants = current.ask.participants,
             .operations = OperationsOf(current.ask),
             .comm_id = current.ask.comm_id};
    return current;
  }
  round.number = next_round_++;
  std::int64_t size_bytes = 0;
  if (candidate.kind == Candidate::Kind::kCollective) {
    current.ask = std::move(candidate.ask);
    round.participants = current.ask.participants;
    round.operations = OperationsOf(current.ask);
    size_bytes = current.ask.spec.size_bytes;
  } else {
    const int peer = candidate.peer;
    round.participants = {rank_};
    if (peer != rank_) {
      round.participants.push_back(peer);
    }
    auto& matches = matches_[peer];
    while (!matches.empty() && round.operations.size() < kMaxTransfersOfARound) {
      const Match match = matches.front();
      matches.pop_front();
      round.operations.push_back(match.mine);
      (peer == rank_ ? round.operations : current.ask.operations).push_back(match.theirs);
      size_bytes += match.size_bytes;
    }
    if (!matches.empty()) {
      candidates_.push_back(std::move(candidate));
    }
  }
  if (round.participants.size() > 1) {
    round.comm_id = size_bytes > 0 ? host_->NewCommId(round.participants) : "";
  }
  return current;
}

void GrantScheduler::AskNextOrGo() {
  const Round& round = current_->round;
  const auto next = std::upper_bound(round.participants.begin(), round.participants.end(), rank_);
  if (next != round.participants.end()) {
    host_->SendGrant(*next, {.kind = GrantKind::kAsk,
                             .round = round.number,
                             .participants = round.participants,
                             .operations = current_->ask.operations,
                             .spec = current_->ask.spec,
                             .comm_id = round.comm_id});
    return;
  }
  for (const std::int32_t rank : round.participants) {
    if (rank != rank_) {
      host_->SendGrant(
          rank,
          {.kind = GrantKind::kGo, .round = round.number, .participants = round.participants});
    }
  }
  Run();
}

void GrantScheduler::Run() {
  current_->running = true;
  host_->RunRound(current_->round);
}

void GrantScheduler::RoundIsOver() {
  Round round = std::move(current_->round);
  current_.reset();
  const auto& ranks = round.participants;
  const RoundName name{ranks[0], round.number};
  over_[name] = std::move(round.operations);
  const GrantMessage done{.kind = GrantKind::kDone, .round = round.number, .participants = ranks};
  if (ranks.size() == 2) {
    host_->SendGrant(ranks[0] == rank_ ? ranks[1] : ranks[0], done);
  } else if (ranks[0] != rank_) {
    host_->SendGrant(ranks[0], done);
  }
  EndIfAllAreDone(name, ranks);
  Advance();
}

void GrantScheduler::OnDone(int from, const GrantMessage& message) {
  const auto& ranks = message.participants;
  if (ranks.size() < 2 || std::find(ranks.begin(), ranks.end(), rank_) == ranks.end()) {
    ThrowUnexpected(from, message);
  }
  const RoundName name{ranks[0], message.round};
  ++done_[name];
  EndIfAllAreDone(name, ranks);
}

void GrantScheduler::EndIfAllAreDone(const RoundName& name,
                                     const std::vector<std::int32_t>& ranks) {
  const bool hears_all = ranks.size() <= 2 || ranks[0] == rank_;
  const auto done = done_.find(name);
  const int others = done == done_.end() ? 0 : done->second;
  if (!hears_all || !over_.contains(name) || others + 1 < static_cast<int>(ranks.size())) {
    return;
  }
  if (done != done_.end()) {
    done_.erase(done);
  }
  for (std::size_t i = 1; i < ranks.size() && ranks.size() > 2; ++i) {
    host_->SendGrant(ranks[i], {.kind = GrantKind::kEnd, .round = name.second});
  }
  CompleteRound(name);
}

void GrantScheduler::CompleteRound(const RoundName& name) {
  const auto over = over_.find(name);
  const std::vector<OperationId> operations = std::move(over->second);
  over_.erase(over);
  for (const OperationId id : operations) {
    Complete(id);
  }
}

void GrantScheduler::Complete(OperationId id) {
  posted_.erase(id);
  host_->Complete(id);
}

void GrantScheduler::Refuse(OperationId id, const std::string& why) {
  if (posted_.erase(id) > 0) {
    host_->Refuse(id, why);
  }
}

}  // namespace imageddpo

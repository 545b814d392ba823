#include "trainer/controller/store/job_store.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/rejection.h"
#include "common/base/status.h"
#include "common/comm/valid_texts.h"
#include "common/config/job_states.h"
#include "common/io/file.h"
#include "common/model_config/model_count_json.h"
#include "trainer/controller/store/job_store_schema.h"

namespace imageddpo {
namespace {

using google::protobuf::util::TimeUtil;

// The order of the columns in every statement of this file.
constexpr char kColumns[] =
    "number, id, request_id, request_sha256, state, reason, spec, progress, create_time_ms, "
    "start_time_ms, "
    "end_time_ms, resume_count, resumed_from_epoch, topology, lora_path, warnings, last_event, "
    "epochs_reported, "
    "eval_reported, checkpoint_reported, restarts_without_epoch, best_lora_path, best_epoch, "
    "best_value, owner, topology_reason, model_count, priority, labels, branched_from, "
    "branched_from_epoch, max_seconds";
constexpr int kNumColumns = 32;

// 0 stands for "not yet": no job was made in 1970.
int64_t MillisecondsOf(bool has, const google::protobuf::Timestamp& time) {
  return has ? TimeUtil::TimestampToMilliseconds(time) : 0;
}

std::string WarningsToJson(const v1::Job& job) {
  nlohmann::json json = nlohmann::json::array();
  for (const std::string& warning : job.warnings()) json.push_back(warning);
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

absl::Status ReadWarnings(const std::string& text, v1::Job* job) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array()) return absl::DataLossError("its warnings are no JSON array");
  for (const auto& warning : json) {
    if (warning.is_string()) job->add_warnings(warning.get<std::string>());
  }
  return absl::OkStatus();
}

std::string LabelsToJson(const v1::Job& job) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [key, value] : job.labels()) json[key] = value;
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

absl::Status ReadLabels(const std::string& text, v1::Job* job) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::DataLossError("its labels are no JSON object");
  for (const auto& [key, value] : json.items()) {
    if (value.is_string()) (*job->mutable_labels())[key] = value.get<std::string>();
  }
  return absl::OkStatus();
}

absl::Status NoSuchJob(const std::string& id) {
  return WithReason(
      absl::NotFoundError(absl::StrCat("there is no job '", id, "'; ListJobs shows all")),
      Reason::kJobNotFound, {{"job", id}});
}

absl::StatusOr<JobRecord> ReadRow(const SqliteStatement& row) {
  JobRecord record;
  v1::Job& job = record.job;
  record.number = row.Int(0);
  job.set_id(row.Text(1));
  record.request_id = row.Text(2);
  record.request_sha256 = row.Text(3);
  v1::JobState state = v1::JOB_STATE_UNSPECIFIED;
  if (!v1::JobState_Parse(row.Text(4), &state)) {
    return absl::DataLossError(
        absl::StrCat("job ", job.id(), " has the unknown state '", row.Text(4), "'"));
  }
  job.set_state(state);
  job.set_state_reason(row.Text(5));
  if (!job.mutable_spec()->ParseFromString(row.Text(6)) ||
      !job.mutable_progress()->ParseFromString(row.Text(7))) {
    return absl::DataLossError(absl::StrCat("the stored job ", job.id(), " is damaged"));
  }
  *job.mutable_create_time() = TimeUtil::MillisecondsToTimestamp(row.Int(8));
  if (row.Int(9) != 0) *job.mutable_start_time() = TimeUtil::MillisecondsToTimestamp(row.Int(9));
  if (row.Int(10) != 0) *job.mutable_end_time() = TimeUtil::MillisecondsToTimestamp(row.Int(10));
  job.set_resume_count(static_cast<int32_t>(row.Int(11)));
  job.set_resumed_from_epoch(row.Int(12));
  job.set_topology(row.Text(13));
  job.set_lora_path(row.Text(14));
  IMAGEDDPO_RETURN_IF_ERROR(
      Annotate(ReadWarnings(row.Text(15), &job), absl::StrCat("the stored job ", job.id())));
  record.last_event = row.Int(16);
  record.epochs_reported = row.Int(17);
  record.eval_reported = row.Int(18);
  record.checkpoint_reported = row.Int(19);
  record.restarts_without_epoch = static_cast<int32_t>(row.Int(20));
  job.set_best_lora_path(row.Text(21));
  job.set_best_epoch(row.Int(22));
  job.set_best_value(row.Real(23));
  job.set_owner(row.Text(24));
  job.set_topology_reason(row.Text(25));
  if (const std::string counts = row.Text(26); !counts.empty()) {
    absl::StatusOr<ModelCount> model = ModelCountFromJson(counts);
    IMAGEDDPO_RETURN_IF_ERROR(Annotate(model.status(), absl::StrCat("the stored job ", job.id())));
    record.model = *std::move(model);
  }
  job.set_priority(static_cast<int32_t>(row.Int(27)));
  IMAGEDDPO_RETURN_IF_ERROR(
      Annotate(ReadLabels(row.Text(28), &job), absl::StrCat("the stored job ", job.id())));
  job.set_branched_from(row.Text(29));
  job.set_branched_from_epoch(row.Int(30));
  job.set_max_seconds(row.Real(31));
  return record;
}

absl::StatusOr<int64_t> NextJobNumber(SqliteDatabase& database) {
  IMAGEDDPO_ASSIGN_OR_RETURN(
      SqliteStatement statement,
      database.Prepare("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'"));
  IMAGEDDPO_ASSIGN_OR_RETURN(const bool found, statement.Step());
  return found ? statement.Int(0) + 1 : 1;
}

}  // namespace

absl::StatusOr<std::unique_ptr<JobStore>> JobStore::Open(const std::string& data_dir) {
  IMAGEDDPO_RETURN_IF_ERROR(Annotate(MakeDirectories(data_dir), "data_dir"));
  IMAGEDDPO_ASSIGN_OR_RETURN(DataDirLock lock, DataDirLock::Acquire(data_dir));
  IMAGEDDPO_ASSIGN_OR_RETURN(std::unique_ptr<SqliteDatabase> database,
                             SqliteDatabase::Open(absl::StrCat(data_dir, "/jobs.db")));
  IMAGEDDPO_RETURN_IF_ERROR(MigrateJobStore(*database));
  std::unique_ptr<JobStore> store(new JobStore(data_dir, std::move(lock), std::move(database)));
  store->RemoveLeftSnapshots();
  return store;
}

JobStore::JobStore(std::string data_dir, DataDirLock lock, std::unique_ptr<SqliteDatabase> database)
    : data_dir_(std::move(data_dir)), lock_(std::move(lock)), database_(std::move(database)) {}

std::string JobStore::JobDir(const std::string& id) const {
  return absl::StrCat(data_dir_, "/jobs/", id);
}

std::string JobStore::DeletedDir(const std::string& id) const {
  return absl::StrCat(data_dir_, "/jobs/.", id, ".deleted");
}

std::string JobStore::RetiredDir(const std::string& id, const std::string& name) const {
  return absl::StrCat(data_dir_, "/jobs/.", id, ".", absl::StrReplaceAll(name, {{"/", "-"}}),
                      ".deleted");
}

absl::Status JobStore::WriteJob(const JobRecord& record, bool insert) {
  std::string parameters = "?1";
  for (int column = 2; column <= kNumColumns; ++column) absl::StrAppend(&parameters, ", ?", column);
  IMAGEDDPO_ASSIGN_OR_RETURN(
      SqliteStatement statement,
      database_->Prepare(
          insert ? absl::StrCat("INSERT INTO jobs (", kColumns, ") VALUES (", parameters, ")")
                 : absl::StrCat("UPDATE jobs SET (", kColumns, ") = (", parameters,
                                ") WHERE number = ?1")));
  v1::Job job = record.job;
  MakeTextsValid(&job);  // Or it could not be read again.
  statement.Bind(1, record.number).Bind(2, job.id()).Bind(4, record.request_sha256);
  record.request_id.empty() ? statement.BindNull(3) : statement.Bind(3, record.request_id);
  statement.Bind(5, StateName(job.state())).Bind(6, job.state_reason());
  statement.BindBlob(7, job.spec().SerializeAsString())
      .BindBlob(8, job.progress().SerializeAsString());
  statement.Bind(9, MillisecondsOf(job.has_create_time(), job.create_time()))
      .Bind(10, MillisecondsOf(job.has_start_time(), job.start_time()))
      .Bind(11, MillisecondsOf(job.has_end_time(), job.end_time()))
      .Bind(12, job.resume_count())
      .Bind(13, job.resumed_from_epoch())
      .Bind(14, job.topology())
      .Bind(15, job.lora_path())
      .Bind(16, WarningsToJson(job))
      .Bind(17, record.last_event)
      .Bind(18, record.epochs_reported)
      .Bind(19, record.eval_reported)
      .Bind(20, record.checkpoint_reported)
      .Bind(21, record.restarts_without_epoch)
      .Bind(22, job.best_lora_path())
      .Bind(23, job.best_epoch())
      .BindReal(24, job.best_value())
      .Bind(25, job.owner())
      .Bind(26, job.topology_reason())
      .Bind(27, record.model.has_value() ? ModelCountToJson(*record.model) : "")
      .Bind(28, job.priority())
      .Bind(29, LabelsToJson(job))
      .Bind(30, job.branched_from())
      .Bind(31, job.branched_from_epoch())
      .BindReal(32, job.max_seconds());
  return statement.Run();
}

absl::Status JobStore::WriteEvent(int64_t job_number, v1::JobEvent event) {
  MakeTextsValid(&event);
  // A commit that failed may be on disk all the same; the change is then stored once more.
  IMAGEDDPO_ASSIGN_OR_RETURN(SqliteStatement statement,
                             database_->Prepare("INSERT OR REPLACE INTO events (job_number, "
                                                "number, time_ms, event) VALUES (?1, ?2, ?3, ?4)"));
  statement.Bind(1, job_number)
      .Bind(2, event.number())
      .Bind(3, TimeUtil::TimestampToMilliseconds(event.time()));
  return statement.BindBlob(4, event.SerializeAsString()).Run();
}

absl::Status JobStore::Insert(JobRecord* record, std::vector<v1::JobEvent> events) {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(SqliteTransaction transaction, SqliteTransaction::Begin(*database_));
  JobRecord stored = *record;
  IMAGEDDPO_ASSIGN_OR_RETURN(stored.number, NextJobNumber(*database_));
  stored.job.set_id(JobIdOf(stored.number));
  stored.job.set_output_dir(JobDir(stored.job.id()));
  stored.last_event = static_cast<int64_t>(events.size());
  IMAGEDDPO_RETURN_IF_ERROR(WriteJob(stored, /*insert=*/true));
  for (size_t i = 0; i < events.size(); ++i) {
    events[i].set_number(static_cast<int64_t>(i) + 1);
    IMAGEDDPO_RETURN_IF_ERROR(WriteEvent(stored.number, events[i]));
  }
  IMAGEDDPO_RETURN_IF_ERROR(transaction.Commit());
  *record = std::move(stored);
  return absl::OkStatus();
}

absl::Status JobStore::Update(const JobRecord& record, absl::Span<const v1::JobEvent> events) {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(SqliteTransaction transaction, SqliteTransaction::Begin(*database_));
  IMAGEDDPO_RETURN_IF_ERROR(WriteJob(record, /*insert=*/false));
  for (const v1::JobEvent& event : events)
    IMAGEDDPO_RETURN_IF_ERROR(WriteEvent(record.number, event));
  return transaction.Commit();
}

absl::Status JobStore::Remove(int64_t number) {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(SqliteTransaction transaction, SqliteTransaction::Begin(*database_));
  for (const char* sql :
       {"DELETE FROM events WHERE job_number = ?1", "DELETE FROM jobs WHERE number = ?1"}) {
    IMAGEDDPO_ASSIGN_OR_RETURN(SqliteStatement statement, database_->Prepare(sql));
    statement.Bind(1, number);
    IMAGEDDPO_RETURN_IF_ERROR(statement.Run());
  }
  return transaction.Commit();
}

absl::StatusOr<std::vector<JobRecord>> JobStore::ReadJobs(SqliteStatement& statement) const {
  std::vector<JobRecord> records;
  for (;;) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) return records;
    IMAGEDDPO_ASSIGN_OR_RETURN(JobRecord record, ReadRow(statement));
    record.job.set_output_dir(JobDir(record.job.id()));
    records.push_back(std::move(record));
  }
}

absl::StatusOr<JobRecord> JobStore::Get(const std::string& id) const {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(
      SqliteStatement statement,
      database_->Prepare(absl::StrCat("SELECT ", kColumns, " FROM jobs WHERE id = ?1")));
  statement.Bind(1, id);
  IMAGEDDPO_ASSIGN_OR_RETURN(std::vector<JobRecord> records, ReadJobs(statement));
  if (records.empty()) return NoSuchJob(id);
  return std::move(records.front());
}

absl::StatusOr<std::optional<JobRecord>> JobStore::FindByRequestId(
    const std::string& request_id) const {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(
      SqliteStatement statement,
      database_->Prepare(absl::StrCat("SELECT ", kColumns, " FROM jobs WHERE request_id = ?1")));
  statement.Bind(1, request_id);
  IMAGEDDPO_ASSIGN_OR_RETURN(std::vector<JobRecord> records, ReadJobs(statement));
  if (records.empty()) return std::optional<JobRecord>();
  return std::optional<JobRecord>(std::move(records.front()));
}

absl::StatusOr<std::vector<JobRecord>> JobStore::List(int64_t before, int64_t limit) const {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(
      SqliteStatement statement,
      database_->Prepare(absl::StrCat(
          "SELECT ", kColumns, " FROM jobs WHERE number < ?1 ORDER BY number DESC LIMIT ?2")));
  statement.Bind(1, before).Bind(2, limit);
  return ReadJobs(statement);
}

absl::StatusOr<std::vector<JobRecord>> JobStore::Unfinished() const {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(
      SqliteStatement statement,
      database_->Prepare(absl::StrCat(
          "SELECT ", kColumns,
          " FROM jobs WHERE state NOT IN ('SUCCEEDED', 'FAILED', 'CANCELLED') ORDER BY number")));
  return ReadJobs(statement);
}

absl::StatusOr<std::map<v1::JobState, int64_t>> JobStore::CountByState() const {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(SqliteStatement statement,
                             database_->Prepare("SELECT state, COUNT(*) FROM jobs GROUP BY state"));
  std::map<v1::JobState, int64_t> counts;
  for (;;) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) return counts;
    v1::JobState state = v1::JOB_STATE_UNSPECIFIED;
    if (v1::JobState_Parse(statement.Text(0), &state)) counts[state] = statement.Int(1);
  }
}

absl::StatusOr<JobStore::EventPage> JobStore::Events(const std::string& id, int64_t from,
                                                     int64_t limit) const {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(
      SqliteStatement job,
      database_->Prepare("SELECT number, state, last_event FROM jobs WHERE id = ?1"));
  IMAGEDDPO_ASSIGN_OR_RETURN(const bool found, job.Bind(1, id).Step());
  if (!found) return NoSuchJob(id);
  v1::JobState state = v1::JOB_STATE_UNSPECIFIED;
  v1::JobState_Parse(job.Text(1), &state);

  IMAGEDDPO_ASSIGN_OR_RETURN(SqliteStatement statement,
                             database_->Prepare("SELECT event FROM events WHERE job_number = ?1 "
                                                "AND number >= ?2 ORDER BY number LIMIT ?3"));
  statement.Bind(1, job.Int(0)).Bind(2, from).Bind(3, limit);
  EventPage page;
  for (;;) {
    IMAGEDDPO_ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) break;
    if (!page.events.emplace_back().ParseFromString(statement.Text(0))) {
      return absl::DataLossError(absl::StrCat("a stored event of ", id, " is damaged"));
    }
  }
  const int64_t last = page.events.empty() ? from - 1 : page.events.back().number();
  page.ended = IsFinal(state) && last >= job.Int(2);
  return page;
}

absl::Status JobStore::CheckWritable() {
  const absl::MutexLock lock(&mutex_);
  return database_->Execute(
      "INSERT OR REPLACE INTO service (key, value) VALUES ('last_check', datetime('now'))");
}

absl::Status JobStore::LimitSize(int64_t size_bytes) {
  const absl::MutexLock lock(&mutex_);
  IMAGEDDPO_ASSIGN_OR_RETURN(SqliteStatement statement, database_->Prepare("PRAGMA page_size"));
  IMAGEDDPO_RETURN_IF_ERROR(statement.Run());
  const int64_t pages =
      size_bytes == 0 ? 0x7fffffff : std::max<int64_t>(1, size_bytes / statement.Int(0));
  return database_->Execute(absl::StrCat("PRAGMA max_page_count = ", pages));
}

}  // namespace imageddpo

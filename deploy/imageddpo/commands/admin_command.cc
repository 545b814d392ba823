#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/access/certificates.h"
#include "common/access/token_file.h"
#include "common/base/status.h"
#include "common/config/cluster_config.h"
#include "common/io/file.h"
#include "deploy/imageddpo/commands/commands.h"
#include "deploy/imageddpo/text/job_files_text.h"
#include "trainer/controller/store/backup.h"
#include "trainer/controller/store/job_store.h"

namespace imageddpo {
namespace {

constexpr int kAuthorityDays = 3650;
constexpr int kServerDays = 825;  // What clients accept at most, some of them.
constexpr int kFirstTokenDays = 365;
constexpr absl::Duration kBackupTimeout = absl::Minutes(5);

struct AdminOptions {
  std::string config_file, data_dir;
  std::vector<std::string> hosts;
  std::string owner, role = "submitter", id;
  int days = 90;
  std::string folder, files = "newest";  // Of a backup.
};

/// The files of cluster.yaml, in a folder that exists; all that is written is for this user alone.
absl::StatusOr<ClusterConfig> OpenAccess(const AdminOptions& options) {
  ::umask(S_IRWXG | S_IRWXO);
  ClusterConfig cluster;
  if (!options.config_file.empty()) {
    IMAGEDDPO_ASSIGN_OR_RETURN(cluster, LoadClusterConfig(options.config_file));
  }
  if (!options.data_dir.empty()) cluster.data_dir = options.data_dir;
  cluster.grpc.address = "localhost";  // Is not asked for here, and a socket's path may be refused.
  cluster.grpc.group = "";
  IMAGEDDPO_RETURN_IF_ERROR(ResolveClusterConfig(&cluster));
  for (const std::string& file : {cluster.access.token_file, cluster.access.tls_certificate_file}) {
    IMAGEDDPO_RETURN_IF_ERROR(MakeDirectories(std::filesystem::path(file).parent_path().string()));
  }
  return cluster;
}

/// Makes a token and prints it, alone on standard output.
absl::Status AddToken(const std::string& token_file, const std::string& owner, Role role,
                      int days) {
  IMAGEDDPO_ASSIGN_OR_RETURN(std::vector<TokenRecord> tokens, ReadTokenFile(token_file));
  IMAGEDDPO_ASSIGN_OR_RETURN(const NewToken made, MakeToken(owner, role, absl::Now(),
                                                            days == 0 ? absl::InfiniteDuration()
                                                                      : absl::Hours(24) * days));
  tokens.push_back(made.record);
  IMAGEDDPO_RETURN_IF_ERROR(WriteTokenFile(token_file, tokens));
  std::cerr << "Token " << made.record.id << " of " << owner << ", " << RoleName(role)
            << "; it is shown this once:\n";
  std::cout << made.token << std::endl;
  return absl::OkStatus();
}

/// The authority of the folder; a new one where there is none.
absl::StatusOr<KeyPair> OpenAuthority(const std::filesystem::path& folder) {
  const std::string certificate_file = (folder / "ca.pem").string();
  const std::string key_file = (folder / "ca.key").string();
  if (std::filesystem::exists(certificate_file) || std::filesystem::exists(key_file)) {
    KeyPair pair;
    IMAGEDDPO_ASSIGN_OR_RETURN(pair.certificate, ReadFile(certificate_file));
    IMAGEDDPO_ASSIGN_OR_RETURN(pair.key, ReadFile(key_file));
    return pair;
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(KeyPair pair, MakeAuthority("imageddpo authority", kAuthorityDays));
  IMAGEDDPO_RETURN_IF_ERROR(WriteFileAtomically(key_file, pair.key));
  IMAGEDDPO_RETURN_IF_ERROR(WriteFileAtomically(certificate_file, pair.certificate));
  return pair;
}

std::string UserOfProcess() {
  const char* user = std::getenv("USER");
  return user == nullptr || user[0] == '\0' ? "admin" : user;
}

absl::Status Init(const AdminOptions& options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const ClusterConfig cluster, OpenAccess(options));
  const std::filesystem::path folder =
      std::filesystem::path(cluster.access.tls_certificate_file).parent_path();
  IMAGEDDPO_ASSIGN_OR_RETURN(const KeyPair authority, OpenAuthority(folder));
  std::vector<std::string> hosts = {"localhost", "127.0.0.1", "::1"};
  std::array<char, 256> own_name{};
  if (::gethostname(own_name.data(), own_name.size() - 1) == 0 && own_name[0] != '\0') {
    hosts.emplace_back(own_name.data());
  }
  hosts.insert(hosts.end(), options.hosts.begin(), options.hosts.end());
  IMAGEDDPO_ASSIGN_OR_RETURN(const KeyPair server,
                             IssueCertificate(authority, "imageddpo service", hosts, kServerDays));
  IMAGEDDPO_RETURN_IF_ERROR(WriteFileAtomically(cluster.access.tls_key_file, server.key));
  IMAGEDDPO_RETURN_IF_ERROR(
      WriteFileAtomically(cluster.access.tls_certificate_file, server.certificate));
  std::cerr << "Authority, for clients: " << (folder / "ca.pem").string()
            << "\nServer's certificate: " << cluster.access.tls_certificate_file << ", "
            << kServerDays << " days\n";
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<TokenRecord> tokens,
                             ReadTokenFile(cluster.access.token_file));
  if (!tokens.empty()) return absl::OkStatus();  // Only the certificate was to be renewed.
  return AddToken(cluster.access.token_file,
                  options.owner.empty() ? UserOfProcess() : options.owner, Role::kAdmin,
                  kFirstTokenDays);
}

absl::Status CreateToken(const AdminOptions& options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const Role role, ParseRole(options.role));
  IMAGEDDPO_ASSIGN_OR_RETURN(const ClusterConfig cluster, OpenAccess(options));
  return AddToken(cluster.access.token_file, options.owner, role, options.days);
}

absl::Status ListTokens(const AdminOptions& options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const ClusterConfig cluster, OpenAccess(options));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::vector<TokenRecord> tokens,
                             ReadTokenFile(cluster.access.token_file));
  for (const TokenRecord& token : tokens) {
    const std::string day =
        token.expire_time == absl::InfiniteFuture()
            ? "does not expire"
            : absl::StrCat(token.expire_time <= absl::Now() ? "expired " : "expires ",
                           absl::FormatTime("%Y-%m-%d", token.expire_time, absl::UTCTimeZone()));
    std::cout << token.id << "  " << token.owner << "  " << RoleName(token.role) << "  " << day
              << "\n";
  }
  return absl::OkStatus();
}

absl::Status RevokeToken(const AdminOptions& options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const ClusterConfig cluster, OpenAccess(options));
  IMAGEDDPO_ASSIGN_OR_RETURN(std::vector<TokenRecord> tokens,
                             ReadTokenFile(cluster.access.token_file));
  if (std::erase_if(tokens, [&](const TokenRecord& token) { return token.id == options.id; }) ==
      0) {
    return absl::NotFoundError(
        absl::StrCat("there is no token ", options.id, "; `imageddpo admin token list` shows all"));
  }
  IMAGEDDPO_RETURN_IF_ERROR(WriteTokenFile(cluster.access.token_file, tokens));
  std::cout << options.id << " is revoked\n";
  return absl::OkStatus();
}

/// A consistent copy of the job store: by the service that owns it or, where none runs, by this
/// process.
absl::StatusOr<std::string> SnapshotStore(const Program& program, const std::string& data_dir) {
  if (!std::filesystem::exists(data_dir + "/jobs.db")) {
    return absl::NotFoundError(data_dir + " has no job store; name the service's cluster.yaml");
  }
  auto store = JobStore::Open(data_dir);
  if (!store.ok() && !absl::IsFailedPrecondition(store.status())) return store.status();
  if (store.ok()) return (*store)->BackUp();
  Program of_service = program;
  AddressOptions& address = of_service.address;
  if (address.address.empty() && address.service_file.empty() && address.context.empty()) {
    address.service_file = data_dir + "/service.json";
  }
  IMAGEDDPO_ASSIGN_OR_RETURN(
      const v1::BackUpStoreResponse copy,
      of_service.MakeClient().Call(&Client::Stub::BackUpStore, v1::BackUpStoreRequest(),
                                   kBackupTimeout));
  return copy.path();
}

void PrintReport(const char* what, const BackupReport& report, const std::string& folder) {
  std::cout << what << " " << report.num_files << " files, " << FormatBytes(report.size_bytes)
            << ": " << folder << "\n";
}

absl::Status BackUp(const Program& program, const AdminOptions& options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const ClusterConfig cluster, OpenAccess(options));
  IMAGEDDPO_ASSIGN_OR_RETURN(const std::string snapshot, SnapshotStore(program, cluster.data_dir));
  const BackupFiles files = options.files == "all"      ? BackupFiles::kAll
                            : options.files == "newest" ? BackupFiles::kNewest
                                                        : BackupFiles::kNone;
  const absl::StatusOr<BackupReport> report =
      WriteBackup(cluster.data_dir, snapshot, options.folder, files);
  std::error_code ignored;
  std::filesystem::remove(snapshot, ignored);
  IMAGEDDPO_RETURN_IF_ERROR(report.status());
  PrintReport("backed up", *report, options.folder);
  return absl::OkStatus();
}

absl::Status Restore(const AdminOptions& options) {
  IMAGEDDPO_ASSIGN_OR_RETURN(const ClusterConfig cluster, OpenAccess(options));
  IMAGEDDPO_ASSIGN_OR_RETURN(const BackupReport report,
                             RestoreBackup(options.folder, cluster.data_dir));
  PrintReport("restored", report, cluster.data_dir);
  return absl::OkStatus();
}

}  // namespace

void AddAdminCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<AdminOptions>();
  const auto run = [options, &program](absl::Status (*action)(const AdminOptions&)) {
    return [options, &program, action] {
      program.action = [options, action] { return Report(action(*options)); };
    };
  };
  CLI::App* admin = app.add_subcommand(
      "admin", "Certificates, tokens and storage of the service; runs on its host, as its user");
  admin->require_subcommand(1);
  admin->footer(
      "\nExamples: imageddpo admin init --host gpu1.example.com > admin.token\n"
      "          imageddpo admin token create --owner alice > alice.token");
  admin->add_option("--config", options->config_file, "cluster.yaml of the service")
      ->type_name("FILE");
  admin->add_option("--data-dir", options->data_dir, "Instead of data_dir in cluster.yaml")
      ->type_name("DIR");
  CLI::App* init = admin->add_subcommand(
      "init",
      "Make an authority, the server's certificate and a first admin token; again: renew the "
      "certificate");
  init->add_option("--host", options->hosts, "Name or address by which clients reach the service");
  init->add_option("--owner", options->owner, "Of the token (default: this user)");
  init->callback(run(&Init));
  CLI::App* token = admin->add_subcommand("token", "Tokens of the service");
  token->require_subcommand(1);
  CLI::App* create = token->add_subcommand("create", "Make a token and print it");
  create->add_option("--owner", options->owner, "Whose jobs it submits and controls")->required();
  create->add_option("--role", options->role, "viewer, submitter (default) or admin");
  create->add_option("--days", options->days, "Until it expires (default 90); 0: never")
      ->check(CLI::Range(0, 36'500));
  create->callback(run(&CreateToken));
  token->add_subcommand("list", "Show all tokens, without their secrets")
      ->callback(run(&ListTokens));
  CLI::App* revoke = token->add_subcommand("revoke", "Remove a token");
  revoke->add_option("ID", options->id, "As `list` shows it")->required();
  revoke->callback(run(&RevokeToken));
  CLI::App* backup = admin->add_subcommand(
      "backup", "Copy the job store and files of jobs to a new folder, while the service runs too");
  backup->add_option("DIR", options->folder, "The new folder")->required();
  backup
      ->add_option("--files", options->files,
                   "Of jobs: all; newest (default): settings, rows and the newest and best "
                   "checkpoints; none")
      ->check(CLI::IsMember({"all", "newest", "none"}));
  backup->callback([options, &program] {
    program.action = [options, &program] { return Report(BackUp(program, *options)); };
  });
  CLI::App* restore = admin->add_subcommand(
      "restore", "Check a backup and copy it into a data_dir without jobs; no service may run");
  restore->add_option("DIR", options->folder, "The folder of the backup")->required();
  restore->callback(run(&Restore));
  admin
      ->add_subcommand("retention",
                       "List what `retention` in cluster.yaml would remove of ended jobs now")
      ->callback([&program] {
        program.action = [&program] {
          const auto plan =
              program.MakeClient().Call(&Client::Stub::PlanRetention, v1::PlanRetentionRequest());
          if (!plan.ok()) return Report(plan.status());
          std::cout << RemovalTable(*plan);
          return ExitCode::kOk;
        };
      });
}

}  // namespace imageddpo

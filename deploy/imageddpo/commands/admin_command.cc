#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
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

namespace imageddpo {
namespace {

constexpr int kAuthorityDays = 3650;
constexpr int kServerDays = 825;  // What clients accept at most, some of them.
constexpr int kFirstTokenDays = 365;

struct AdminOptions {
  std::string config_file, data_dir;
  std::vector<std::string> hosts;
  std::string owner, role = "submitter", id;
  int days = 90;
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

}  // namespace

void AddAdminCommand(CLI::App& app, Program& program) {
  auto options = std::make_shared<AdminOptions>();
  const auto run = [options, &program](absl::Status (*action)(const AdminOptions&)) {
    return [options, &program, action] {
      program.action = [options, action] { return Report(action(*options)); };
    };
  };
  CLI::App* admin = app.add_subcommand(
      "admin", "Certificates and tokens of the service; runs on its host, as its user");
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
}

}  // namespace imageddpo

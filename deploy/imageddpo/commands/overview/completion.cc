#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "common/base/text.h"
#include "deploy/imageddpo/commands/overview/overview.h"

namespace imageddpo {
namespace {

constexpr char kJobId[] = "ID";  // The name of arguments that are one.
constexpr int kShownIds = 50;
constexpr absl::Duration kPatience = absl::Milliseconds(800);  // Somebody waits at a prompt.

// Each asks the program itself for words; without any, the shell completes names of files.
constexpr char kBash[] = R"sh(_imageddpo() {
  local IFS=$'\n'
  COMPREPLY=($(imageddpo __complete "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
}
complete -o default -F _imageddpo imageddpo
)sh";
constexpr char kZsh[] = R"sh(#compdef imageddpo
_imageddpo() {
  local -a found
  found=(${(f)"$(imageddpo __complete "$LBUFFER" 2>/dev/null)"})
  if (( ${#found} )); then compadd -- $found; else _files; fi
}
compdef _imageddpo imageddpo
)sh";
constexpr char kFish[] =
    R"sh(complete -c imageddpo -a '(imageddpo __complete (commandline -cp) 2>/dev/null)'
)sh";

std::vector<const CLI::App*> ShownCommands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !command->get_group().empty(); });
}

/// The option that the word is, of this command or of those above it.
const CLI::Option* FindOption(const CLI::App* command, const std::string& word) {
  for (; command != nullptr; command = command->get_parent()) {
    if (const CLI::Option* option = command->get_option_no_throw(word)) return option;
  }
  return nullptr;
}

void AddOptionNames(const CLI::App* command, std::vector<std::string>* words) {
  for (; command != nullptr; command = command->get_parent()) {
    for (const CLI::Option* option : command->get_options()) {
      for (const std::string& name : option->get_lnames()) words->push_back("--" + name);
    }
  }
}

/// The ids of the newest jobs; none where the service does not answer at once.
std::vector<std::string> NewestIds(const Program& program) {
  v1::ListJobsRequest request;
  request.set_page_size(kShownIds);
  const auto page = program.MakeClient().Call(&Client::Stub::ListJobs, request, kPatience);
  std::vector<std::string> ids;
  if (!page.ok()) return ids;
  for (const v1::Job& job : page->jobs()) ids.push_back(Printable(job.id()));
  return ids;
}

ExitCode Complete(const CLI::App& app, const Program& program, const std::string& line) {
  const std::string last = line.substr(line.find_last_of(' ') + 1);
  for (const std::string& word : Completions(app, line)) {
    if (word != kJobId) {
      std::cout << word << "\n";
      continue;
    }
    for (const std::string& id : NewestIds(program)) {
      if (absl::StartsWith(id, last)) std::cout << id << "\n";
    }
  }
  return ExitCode::kOk;
}

}  // namespace

std::vector<std::string> Completions(const CLI::App& app, const std::string& line) {
  std::vector<std::string> typed = absl::StrSplit(line, ' ', absl::SkipEmpty());
  if (typed.empty()) return {};
  typed.erase(typed.begin());  // The program.
  std::string last;
  if (!typed.empty() && line.back() != ' ') {
    last = typed.back();
    typed.pop_back();
  }
  const CLI::App* command = &app;
  const CLI::Option* open_option = nullptr;  // Whose value comes next.
  for (const std::string& word : typed) {
    if (open_option != nullptr) {
      open_option = nullptr;
    } else if (absl::StartsWith(word, "-")) {
      const CLI::Option* option = FindOption(command, word);
      if (option != nullptr && option->get_items_expected_max() > 0) open_option = option;
    } else if (const CLI::App* inner = FindCommand(*command, word)) {
      command = inner;
    }
  }
  if (open_option != nullptr) return {};
  std::vector<std::string> words;
  if (absl::StartsWith(last, "-")) {
    AddOptionNames(command, &words);
  } else {
    for (const CLI::App* inner : ShownCommands(*command)) words.push_back(inner->get_name());
  }
  std::erase_if(words, [&](const std::string& word) { return !absl::StartsWith(word, last); });
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  const std::vector<const CLI::Option*> options = command->get_options();
  const bool takes_id = std::any_of(options.begin(), options.end(), [](const CLI::Option* option) {
    const std::string name = option->get_positional() ? option->get_name(true, false) : "";
    return absl::StartsWith(name, kJobId) || absl::StartsWith(name, "JOB") || name == "OTHER";
  });
  if (takes_id && !absl::StartsWith(last, "-")) words.emplace_back(kJobId);
  return words;
}

void AddCompletionCommand(CLI::App& app, Program& program) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(
      "completion", "Print what makes a shell complete commands, options and ids of jobs");
  command->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->footer("\nExample: source <(imageddpo completion bash)");
  command->callback([shell, &program] {
    program.action = [shell] {
      std::cout << (*shell == "bash" ? kBash : *shell == "zsh" ? kZsh : kFish);
      return ExitCode::kOk;
    };
  });
  auto line = std::make_shared<std::string>();
  CLI::App* complete = app.add_subcommand("__complete", "")->group("");
  complete->add_option("LINE", *line, "The command line up to the cursor")->required();
  complete->callback([line, &app, &program] {
    program.action = [line, &app, &program] { return Complete(app, program, *line); };
  });
}

}  // namespace imageddpo

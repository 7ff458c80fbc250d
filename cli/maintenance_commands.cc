#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "storage/sqlite/sqlite_store.h"

namespace kerf::cli {
namespace {

struct MaintenanceOptions {
  std::string data_dir = ".kerf";
  std::string file;

  [[nodiscard]] std::string database() const {
    return (std::filesystem::path(data_dir) / "kerf.db").string();
  }
};

}  // namespace

void add_maintenance_commands(CLI::App& app, Run* run) {
  {
    CLI::App* command = app.add_subcommand("backup", "copy a data directory's database, also of a running server");
    const auto options = std::make_shared<MaintenanceOptions>();
    command->add_option("--data-dir", options->data_dir, "the data directory (default: .kerf)");
    command->add_option("FILE", options->file, "the copy to make; it must not exist")->required();
    command->callback([=] {
      *run = [=] { return storage::backup_sqlite_store(options->database(), options->file); };
    });
  }
  {
    CLI::App* command = app.add_subcommand("restore", "put a backup in the place of a data directory's database");
    const auto options = std::make_shared<MaintenanceOptions>();
    command->add_option("--data-dir", options->data_dir, "the data directory (default: .kerf)");
    command->add_option("FILE", options->file, "what kerf backup wrote")->required();
    command->callback([=] {
      *run = [=] { return storage::restore_sqlite_store(options->file, options->database()); };
    });
  }
}

}  // namespace kerf::cli

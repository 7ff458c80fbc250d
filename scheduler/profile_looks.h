#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/look.h"
#include "scheduler/profile_plan.h"

namespace kerf::scheduler {

/// Documents by key, parsed once.
class ProfilePlan::Looks {
 public:
  Looks(const ProfilePlan& plan, const std::map<std::string, Json>& documents) {
    parse(plan.damage_, documents, damage_);
    parse(plan.cost_, documents, cost_);
    parse(plan.labels_, documents, labels_);
    base_ = cost(plan.base_key_);
  }

  [[nodiscard]] const DamageLook* damage(const std::string& key) const { return at(damage_, key); }
  [[nodiscard]] const CostLook* cost(const std::string& key) const { return at(cost_, key); }
  [[nodiscard]] const LabelLook* labels(const std::string& key) const { return at(labels_, key); }
  [[nodiscard]] const CostLook* base() const { return base_; }
  [[nodiscard]] bool empty() const { return damage_.empty() && cost_.empty(); }

 private:
  template <class Look>
  static void parse(const std::vector<Want>& wants, const std::map<std::string, Json>& documents,
                    std::map<std::string, Look>& looks) {
    for (const Want& want : wants) {
      const auto found = documents.find(want.key);
      if (found == documents.end()) continue;
      if (auto look = Look::parse(found->second); look.has_value()) looks[want.key] = *look;
    }
  }
  template <class Look>
  static const Look* at(const std::map<std::string, Look>& looks, const std::string& key) {
    const auto found = looks.find(key);
    return found == looks.end() ? nullptr : &found->second;
  }

  std::map<std::string, DamageLook> damage_;
  std::map<std::string, CostLook> cost_;
  std::map<std::string, LabelLook> labels_;
  const CostLook* base_ = nullptr;
};

}  // namespace kerf::scheduler

#pragma once

#include <map>
#include <string>

#include "core/json.h"
#include "core/look.h"
#include "scheduler/profile_plan.h"

namespace kerf::scheduler {

/// Documents by key, parsed once.
class ProfilePlan::Looks {
 public:
  Looks(const ProfilePlan& plan, const std::map<std::string, Json>& documents) {
    for (const Want& want : plan.damage_) {
      const auto found = documents.find(want.key);
      if (found == documents.end()) continue;
      if (auto look = DamageLook::parse(found->second); look.has_value()) damage_[want.key] = *look;
    }
    for (const Want& want : plan.cost_) {
      const auto found = documents.find(want.key);
      if (found == documents.end()) continue;
      if (auto look = CostLook::parse(found->second); look.has_value()) cost_[want.key] = *look;
    }
    for (const Want& want : plan.labels_) {
      const auto found = documents.find(want.key);
      if (found == documents.end()) continue;
      if (auto look = LabelLook::parse(found->second); look.has_value()) labels_[want.key] = *look;
    }
    base_ = cost(plan.base_key_);
  }

  [[nodiscard]] const DamageLook* damage(const std::string& key) const {
    const auto found = damage_.find(key);
    return found == damage_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] const CostLook* cost(const std::string& key) const {
    const auto found = cost_.find(key);
    return found == cost_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] const LabelLook* labels(const std::string& key) const {
    const auto found = labels_.find(key);
    return found == labels_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] const CostLook* base() const { return base_; }
  [[nodiscard]] bool empty() const { return damage_.empty() && cost_.empty(); }

 private:
  std::map<std::string, DamageLook> damage_;
  std::map<std::string, CostLook> cost_;
  std::map<std::string, LabelLook> labels_;
  const CostLook* base_ = nullptr;
};

}  // namespace kerf::scheduler

#include "cli/front_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <vector>

#include "cli/table.h"

namespace kerf::cli {
namespace {

constexpr double kWidth = 860;
constexpr double kHeight = 540;
constexpr double kLeft = 90;
constexpr double kRight = 30;
constexpr double kTop = 60;
constexpr double kBottom = 70;

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '&': out += "&amp;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

struct Axis {
  std::string metric;
  double low = 0;
  double high = 1;

  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  void widen() {
    const double margin = high > low ? 0.06 * (high - low) : std::max(1e-9, std::fabs(high) * 0.1);
    low -= margin;
    high += margin;
  }
  [[nodiscard]] double share(double value) const { return (value - low) / (high - low); }
};

struct Point {
  std::int64_t number = 0;
  double x = 0;
  double y = 0;
  std::optional<double> colour;
  bool on_front = false;
};

std::optional<double> metric_of(const Json& trial, const std::string& metric) {
  if (!trial.contains("metrics") || !trial["metrics"].is_object()) return std::nullopt;
  const auto found = trial["metrics"].find(metric);
  if (found == trial["metrics"].end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

// From few (light) to many (dark) of the third objective.
std::string shade(double share) {
  const auto mix = [&](double from, double to) { return static_cast<int>(from + (to - from) * share); };
  return fmt::format("rgb({},{},{})", mix(80, 190), mix(180, 60), mix(170, 90));
}

}  // namespace

std::string front_svg(const Json& report, const Json& objectives, const std::string& title) {
  // The usual reading: what is paid to the right, what is kept upwards.
  std::vector<std::string> names;
  for (const Json& objective : objectives) names.push_back(objective.at("metric").get<std::string>());
  const std::string y_name = names.at(0);
  const std::string x_name = names.size() > 1 ? names.at(1) : names.at(0);
  const std::string colour_name = names.size() > 2 ? names.at(2) : "";

  std::set<std::int64_t> front;
  for (const Json& member : report.value("front", Json::array())) {
    front.insert(member.at("trial").get<std::int64_t>());
  }
  std::vector<Point> points;
  for (const Json& trial : report.value("trials", Json::array())) {
    const auto x = metric_of(trial, x_name);
    const auto y = metric_of(trial, y_name);
    if (!x || !y) continue;
    const auto number = trial.at("number").get<std::int64_t>();
    points.push_back({number, *x, *y, colour_name.empty() ? std::nullopt : metric_of(trial, colour_name),
                      front.contains(number)});
  }

  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" font-family=\"sans-serif\" font-size=\"13\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
      "<text x=\"{2}\" y=\"32\" font-size=\"18\" font-weight=\"bold\">{3}</text>\n",
      kWidth, kHeight, kLeft, escaped(title));
  if (points.empty()) {
    return out + fmt::format("<text x=\"{}\" y=\"{}\">no complete trial yet</text></svg>\n", kLeft, kHeight / 2);
  }

  Axis x{x_name, points[0].x, points[0].x};
  Axis y{y_name, points[0].y, points[0].y};
  std::optional<Axis> colour;
  for (const Point& point : points) {
    x.include(point.x);
    y.include(point.y);
    if (!point.colour) continue;
    if (!colour) colour = Axis{colour_name, *point.colour, *point.colour};
    colour->include(*point.colour);
  }
  x.widen();
  y.widen();
  const auto px = [&](double v) { return kLeft + x.share(v) * (kWidth - kLeft - kRight); };
  const auto py = [&](double v) { return kHeight - kBottom - y.share(v) * (kHeight - kTop - kBottom); };

  for (int i = 0; i <= 5; ++i) {
    const double xv = x.low + (x.high - x.low) * i / 5;
    const double yv = y.low + (y.high - y.low) * i / 5;
    out += fmt::format(
        "<line x1=\"{0:.1f}\" y1=\"{1}\" x2=\"{0:.1f}\" y2=\"{2}\" stroke=\"#ddd\"/>"
        "<text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4}</text>\n",
        px(xv), kTop, kHeight - kBottom, kHeight - kBottom + 20, escaped(human_metric(x_name, xv)));
    out += fmt::format(
        "<line x1=\"{0}\" y1=\"{1:.1f}\" x2=\"{2}\" y2=\"{1:.1f}\" stroke=\"#ddd\"/>"
        "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>\n",
        kLeft, py(yv), kWidth - kRight, kLeft - 8, py(yv) + 4, escaped(human_metric(y_name, yv)));
  }
  out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                     (kLeft + kWidth - kRight) / 2, kHeight - 22, escaped(x_name));
  out += fmt::format("<text x=\"20\" y=\"{0}\" text-anchor=\"middle\" transform=\"rotate(-90 20 {0})\">{1}</text>\n",
                     (kTop + kHeight - kBottom) / 2, escaped(y_name));
  if (colour) {
    out += fmt::format("<text x=\"{}\" y=\"50\" text-anchor=\"end\">colour: {} ({} green, {} red)</text>\n",
                       kWidth - kRight, escaped(colour_name), escaped(human_metric(colour_name, colour->low)),
                       escaped(human_metric(colour_name, colour->high)));
  }

  std::vector<Point> on_front;
  for (const Point& point : points) {
    if (point.on_front) on_front.push_back(point);
  }
  std::sort(on_front.begin(), on_front.end(), [](const Point& a, const Point& b) { return a.x < b.x; });
  std::string path;
  for (const Point& point : on_front) {
    path += fmt::format("{}{:.1f},{:.1f} ", path.empty() ? "M" : "L", px(point.x), py(point.y));
  }
  if (!path.empty()) out += "<path d=\"" + path + "\" fill=\"none\" stroke=\"#888\" stroke-dasharray=\"4 3\"/>\n";
  for (const Point& point : points) {
    const std::string fill =
        colour && point.colour && colour->high > colour->low ? shade(colour->share(*point.colour)) : "#3a7";
    out += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" fill=\"{}\" fill-opacity=\"{}\"{}>"
        "<title>trial {}: {} {}, {} {}</title></circle>\n",
        px(point.x), py(point.y), point.on_front ? 7 : 4, fill, point.on_front ? 1.0 : 0.35,
        point.on_front ? " stroke=\"#222\" stroke-width=\"1.5\"" : "", point.number, escaped(x_name),
        escaped(human_metric(x_name, point.x)), escaped(y_name), escaped(human_metric(y_name, point.y)));
    if (point.number == 0) {
      out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">f32 baseline</text>\n",
                         px(point.x), py(point.y) - 12);
    }
  }
  return out + "</svg>\n";
}

}  // namespace kerf::cli

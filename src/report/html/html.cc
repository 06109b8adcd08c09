#include "kvr/report/html.h"

#include "../samples.h"
#include "../values.h"
#include "assets.h"
#include "kvr/report/figures.h"
#include "kvr/report/report.h"
#include "markup.h"
#include "outputs.h"

namespace kvr::report {
namespace {

std::string Section(const char* id, const char* title, const std::string& content) {
  return std::string("<section id=\"") + id + "\">\n<h2>" + title + "</h2>\n" + content +
         "</section>\n";
}

std::string Folded(const std::string& summary, const std::string& content) {
  return "<details><summary>" + HtmlText(summary) + "</summary>\n" + content + "</details>\n";
}

std::string List(const std::vector<std::string>& lines, const char* kind) {
  if (lines.empty()) return "";
  std::string out = std::string("<ul class=\"") + kind + "\">\n";
  for (const std::string& line : lines) out += "<li>" + HtmlText(line) + "</li>\n";
  return out + "</ul>\n";
}

std::string Summary(const Report& report) {
  return List(report.alarms, "alarms") + List(report.claims, "claims") +
         List(report.warnings, "warnings") + List(report.facts, "facts");
}

std::string TableWithNote(const Table& table) {
  if (table.rows.empty()) return "<p>Nothing to show.</p>\n";
  return HtmlTable(table) + "<p class=\"note\">" + HtmlText(table.note) + "</p>\n";
}

std::string Shown(const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_number_float()) return Print("%.4g", value.get<double>());
  return value.is_string() ? value.get<std::string>() : DumpLine(value);
}

// The figure's numbers as a table, which is the figure where no script runs.
std::string Numbers(const Json& spec) {
  std::vector<std::string> heads;
  std::vector<bool> right;
  const Json& values = spec.at("data").at("values");
  for (const Json& key : spec.at("usermeta").at("columns")) {
    heads.push_back(key.get<std::string>());
    right.push_back(std::ranges::none_of(values, [&](const Json& row) {
      return row.contains(heads.back()) && row[heads.back()].is_string();
    }));
  }
  std::vector<std::vector<std::string>> rows;
  for (const Json& row : values) {
    std::vector<std::string>& cells = rows.emplace_back();
    for (const std::string& key : heads) cells.push_back(Shown(row.value(key, Json())));
  }
  return HtmlTable(heads, right, rows);
}

std::string OneFigure(const Figure& figure) {
  const Json& title = figure.spec.at("title");
  std::string head = "<h3>";
  if (title.is_string()) {
    head += HtmlText(title.get<std::string>());
  } else {
    head += HtmlText(title.at("text").get<std::string>()) + " <span class=\"quiet\">" +
            HtmlText(title.at("subtitle").get<std::string>()) + "</span>";
  }
  return "<figure id=\"figure-" + figure.name + "\">\n" + head + "</h3>\n" +
         "<div class=\"box drawing\"></div>\n<figcaption>" +
         HtmlText(figure.spec.at("description").get<std::string>()) + "</figcaption>\n" +
         Folded("Numbers", Numbers(figure.spec)) + "<script type=\"application/json\">" +
         JsonForScript(figure.spec) + "</script>\n</figure>\n";
}

std::string Figures(std::span<const Run> runs) {
  std::string out =
      "<p class=\"unscripted\">Figures are drawn by a script, which does not run here: their "
      "numbers are in the tables under \"Numbers\".</p>\n";
  for (const Figure& figure : BuildFigures(runs)) out += OneFigure(figure);
  return out;
}

std::string Facts(const Json& object) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, value] : object.items()) rows.push_back({key, Shown(value)});
  return HtmlTable({"what", "value"}, {false, false}, rows);
}

std::string Environment(std::span<const Run> runs) {
  std::string out;
  for (const Run& run : runs) {
    if (runs.size() > 1) out += "<h3>" + HtmlText(run.label) + "</h3>\n";
    out += Facts(run.environment);
    const Json description = ToJson(run);
    for (const Json& model : description.at("models")) {
      out += Folded("Model " + Shown(model.at("name")), Facts(model));
    }
    out +=
        Folded("Configuration",
               "<pre>" + HtmlText(run.config.dump(2, ' ', false, Json::error_handler_t::replace)) +
                   "</pre>\n");
  }
  return out;
}

std::string Outputs(const std::vector<Scope>& scopes) {
  std::string out;
  for (const Scope& scope : scopes) {
    if (scopes.size() > 1) out += "<h3>" + HtmlText(scope.Title()) + "</h3>\n";
    out += HtmlOutputs(scope);
  }
  return out;
}

std::string AllTables(const Report& report) {
  std::string out;
  for (const Table& table : report.tables) {
    out += Folded(table.title + " (" + table.name + ")", TableWithNote(table));
  }
  return out;
}

// All scripts as one text, so that the policy needs to name one.
std::string Script() {
  std::string all;
  for (const std::string_view part :
       {VegaScript(), VegaLiteScript(), VegaEmbedScript(), PageScript()}) {
    all.append(part.substr(0, part.find("//# sourceMappingURL"))).append("\n");
  }
  return all;
}

std::string Titles(std::span<const Run> runs) {
  std::string titles;
  for (const Run& run : runs) titles += (titles.empty() ? "" : ", ") + HtmlText(run.label);
  return titles;
}

}  // namespace

std::string RenderHtml(std::span<const Run> runs) {
  const Report report = BuildReport(runs);
  const std::vector<Scope> scopes = ScopesOf(runs);
  const std::string titles = Titles(runs), script = Script();
  const std::string policy =
      "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src '" +
      PolicyHash(script) + "'; base-uri 'none'; form-action 'none'";
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta http-equiv=\"Content-Security-Policy\" content=\"" +
         policy +
         "\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
         "<meta name=\"color-scheme\" content=\"light dark\">\n<title>" +
         titles + "</title>\n<style>\n" + std::string(PageStyle()) +
         "</style>\n</head>\n<body>\n"
         "<header><h1>" +
         titles +
         "</h1>\n<nav><a href=\"#summary\">Summary</a> "
         "<a href=\"#paper\">The paper's table</a> <a href=\"#figures\">Figures</a> "
         "<a href=\"#outputs\">Outputs</a> <a href=\"#tables\">All tables</a> "
         "<a href=\"#environment\">Environment</a></nav></header>\n<main>\n" +
         Section("summary", "Summary", Summary(report)) +
         Section("paper", "The paper's table", TableWithNote(FindTable(report, "paper"))) +
         Section("figures", "Figures", Figures(runs)) +
         Section("outputs", "Each prompt's outputs", Outputs(scopes)) +
         Section("tables", "All tables", AllTables(report)) +
         Section("environment", "Environment", Environment(runs)) + "</main>\n<footer>" +
         Folded("Licences of the software that draws the figures",
                "<pre>" + HtmlText(VegaLicences()) + "</pre>\n") +
         "</footer>\n<script>" + script + "</script>\n</body>\n</html>\n";
}

}  // namespace kvr::report

#include "conversation.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "kvr/base/error.h"
#include "kvr/base/utf8.h"
#include "kvr/experiment/config.h"
#include "kvr/experiment/prompts.h"
#include "kvr/experiment/setting_reader.h"

namespace kvr::experiment::workloads {
namespace {

struct Conversation {
  std::string id;
  std::vector<std::string> turns;  // the user's
};

struct ConversationSettings {
  std::vector<Conversation> conversations;
  std::vector<std::string> windows;  // "none", "slide", "step"
  std::string form;                  // "chat", "raw", "dialogpt"
  int context_tokens = 0;            // 0: the model's
  int reply_tokens = 0;              // 0: as many as the cells decode at most
  double keep = 0;                   // of the context, under "step"
};

// A stretch of a conversation: text and the ids that it stands as, whatever is around it.
struct Part {
  std::string text;
  Tokens tokens;
  void Add(const Part& more) {
    text += more.text;
    tokens.insert(tokens.end(), more.tokens.begin(), more.tokens.end());
  }
};

// How turns are written down. The parts of a conversation are encoded each by itself, so that a
// turn's tokens stay what they were when others are dropped.
class Writer {
 public:
  Writer(const engine::PromptContext& context, const std::string& form)
      : context_(context), form_(form), added_(context.tokenizer.Encode("")) {
    opening_.tokens = added_;
    if (form == "chat") {
      if (!context.chat_template) {
        throw InvalidInput(context.info.name +
                           " has no chat template; say \"template\": \"raw\" or \"dialogpt\"");
      }
      opening_.Add(Encode(context.chat_template->Opening()));
      closing_ = Encode(context.chat_template->Closing("assistant"));
    } else if (form == "dialogpt") {
      closing_ = EndOfText();
    } else {
      closing_ = Encode("\n");
    }
  }

  // What stands before all turns.
  [[nodiscard]] const Part& opening() const { return opening_; }

  // The user's turn, up to where the reply begins.
  [[nodiscard]] Part User(const std::string& text) const {
    if (form_ == "chat") {
      return Encode(context_.chat_template->Turn({"user", text}) +
                    context_.chat_template->open_assistant());
    }
    Part part = Encode(text);
    part.Add(closing_);
    return part;
  }

  // The reply and what closes it, in place of the end-of-text token if that came.
  [[nodiscard]] Part Assistant(Tokens reply) const {
    const std::vector<Token>& eos = context_.info.eos_ids;
    if (!reply.empty() && std::find(eos.begin(), eos.end(), reply.back()) != eos.end()) {
      reply.pop_back();
    }
    Part part{SanitizeUtf8(context_.tokenizer.Decode(reply)).text, std::move(reply)};
    part.Add(closing_);
    return part;
  }

 private:
  // Without what the tokenizer puts in front of a text.
  [[nodiscard]] Part Encode(const std::string& text) const {
    Part part{text, context_.tokenizer.Encode(text)};
    part.tokens.erase(part.tokens.begin(), std::ranges::mismatch(part.tokens, added_).in1);
    return part;
  }
  [[nodiscard]] Part EndOfText() const {
    if (context_.info.eos_ids.empty()) {
      throw InvalidInput(context_.info.name +
                         " has no end-of-text token; say \"template\": \"raw\"");
    }
    const Tokens end = {context_.info.eos_ids.front()};
    return {context_.tokenizer.Decode(end), end};
  }

  const engine::PromptContext& context_;
  const std::string form_;
  const Tokens added_;  // what the tokenizer puts in front of every text
  Part opening_, closing_;
};

// The turns that a prompt has, by a window rule.
class Window {
 public:
  Window(std::string rule, int room_tokens, double keep)
      : rule_(std::move(rule)),
        room_(static_cast<std::size_t>(room_tokens)),
        kept_(static_cast<std::size_t>(keep * room_tokens)) {}

  // The first turn that the prompt of turn `turn` has, where `tokens(first)` are the prompt's from
  // turn `first` on. What was dropped stays so. Nothing where it does not fit.
  template <typename TokensFrom>
  std::optional<std::size_t> First(std::size_t turn, TokensFrom tokens) {
    const std::size_t most = tokens(first_) > room_ && rule_ == "step" ? kept_ : room_;
    while (rule_ != "none" && first_ < turn && tokens(first_) > most) ++first_;
    return tokens(first_) > room_ ? std::nullopt : std::optional(first_);
  }

 private:
  const std::string rule_;
  const std::size_t room_, kept_;  // tokens
  std::size_t first_ = 0;
};

class Maker {
 public:
  Maker(const ConversationSettings& settings, const Config& config,
        const engine::PromptContext& context, const Reply& reply)
      : settings_(settings),
        reply_(reply),
        writer_(context, settings.form),
        limit_(config.marks.back()),
        reply_tokens_(settings.reply_tokens > 0 ? settings.reply_tokens : limit_),
        context_tokens_(settings.context_tokens > 0 ? settings.context_tokens
                                                    : context.info.context_tokens) {
    if (context_tokens_ > context.info.context_tokens) {
      throw InvalidInput(fmt::format("context_tokens: found {}, but the context of {} is {} tokens",
                                     context_tokens_, context.info.name,
                                     context.info.context_tokens));
    }
  }

  Prompts Make() {
    for (const std::string& rule : settings_.windows) {
      for (const Conversation& conversation : settings_.conversations) Add(conversation, rule);
    }
    return std::move(prompts_);
  }

 private:
  void Add(const Conversation& conversation, const std::string& rule) {
    const int room = context_tokens_ - std::max(limit_, reply_tokens_);
    Window window(rule, std::max(room, 0), settings_.keep);
    std::vector<Part> turns;  // the user's and the reply to it
    std::vector<std::size_t> seen;
    for (std::size_t turn = 0; turn < conversation.turns.size(); ++turn) {
      const Part user = writer_.User(conversation.turns[turn]);
      const auto tokens_from = [&](std::size_t first) {
        std::size_t tokens = writer_.opening().tokens.size() + user.tokens.size();
        for (std::size_t i = first; i < turn; ++i) tokens += turns[i].tokens.size();
        return tokens;
      };
      const std::optional<std::size_t> first = window.First(turn, tokens_from);
      if (!first) {
        throw InvalidInput(fmt::format(
            "conversation {}, turn {}: its {} tokens and {} to generate may pass the context of {} "
            "tokens{}",
            conversation.id, turn + 1, tokens_from(rule == "none" ? 0 : turn),
            std::max(limit_, reply_tokens_), context_tokens_,
            rule == "none" ? "; \"window\": \"slide\" or \"step\" drops the oldest turns" : ""));
      }
      const Part history = From(turns, *first);
      Part prompt = history;
      prompt.Add(user);
      turns.push_back(user);
      turns.back().Add(writer_.Assistant(ReplyTo(prompt.tokens)));
      Part answered = From(turns, *first);
      prompts_.test.push_back({.text = std::move(prompt.text),
                               .tokens = std::move(prompt.tokens),
                               .limit = limit_,
                               .history_tokens = history.tokens.size(),
                               .sees = seen});
      seen.push_back(prompts_.cached.size());
      prompts_.cached.push_back({.text = std::move(answered.text),
                                 .tokens = std::move(answered.tokens),
                                 .answered_tokens = prompts_.test.back().tokens.size()});
    }
  }

  [[nodiscard]] Part From(const std::vector<Part>& turns, std::size_t first) const {
    Part all = writer_.opening();
    for (std::size_t i = first; i < turns.size(); ++i) all.Add(turns[i]);
    return all;
  }

  // Before anything is dropped, all window rules have the same prompts.
  const Tokens& ReplyTo(const Tokens& prompt) {
    const auto [at, fresh] = replies_.try_emplace(prompt);
    if (fresh) at->second = reply_(prompt, reply_tokens_);
    return at->second;
  }

  const ConversationSettings& settings_;
  const Reply& reply_;
  const Writer writer_;
  const int limit_, reply_tokens_, context_tokens_;
  std::map<Tokens, Tokens> replies_;
  Prompts prompts_;
};

// What a line of a file says: MT-Bench's questions, a list of turns, or a ShareGPT conversation,
// whose replies are left to the model.
Conversation ReadConversation(const Json& object, const std::string& where) {
  SettingReader reader(object, where);
  Conversation conversation;
  for (const char* key : {"id", "question_id", "conversation_id"}) {
    if (const Json* id = reader.Find(key)) {
      conversation.id = id->is_string() ? id->get<std::string>() : id->dump();
    }
  }
  if (const Json* turns = reader.Find("turns")) {
    for (const Json& turn : turns->is_array() ? *turns : Json::array({*turns})) {
      if (!turn.is_string()) reader.Fail("turns", turn, "the user's words");
      conversation.turns.push_back(turn.get<std::string>());
    }
  } else {
    const Json& said = reader.Need("conversations", "\"turns\" or \"conversations\", a list");
    for (std::size_t i = 0; said.is_array() && i < said.size(); ++i) {
      const Json from = said[i].is_object() ? said[i].value("from", Json()) : Json();
      if (from != "human" && from != "user") continue;
      const Json text = said[i].value("value", Json());
      if (!text.is_string()) {
        reader.Fail("conversations", said[i], "an object with \"from\" and \"value\"");
      }
      conversation.turns.push_back(text.get<std::string>());
    }
  }
  if (conversation.turns.empty()) reader.Fail("turns", object, "at least one turn of the user's");
  return conversation;
}

// Joins `chain` conversations of one category in a row into one, as one user who asks on.
std::vector<Conversation> Chained(std::vector<std::pair<std::string, Conversation>> all,
                                  std::size_t chain) {
  std::vector<Conversation> joined;
  std::size_t in_last = chain;
  std::string category;
  for (auto& [of, conversation] : all) {
    if (in_last == chain || of != category) {
      joined.push_back(std::move(conversation));
      in_last = 1;
    } else {
      std::vector<std::string>& turns = joined.back().turns;
      turns.insert(turns.end(), conversation.turns.begin(), conversation.turns.end());
      ++in_last;
    }
    category = of;
  }
  return joined;
}

std::vector<Conversation> ReadConversations(SettingReader& reader,
                                            const std::filesystem::path& path) {
  const Json& value = reader.Need("conversations", "a file's path or a list of objects");
  std::vector<std::pair<std::string, Conversation>> all;
  std::set<std::string> ids;
  for (const auto& [where, object] :
       PromptObjects(value, path.string() + ":/conversations", path.parent_path())) {
    Conversation conversation = ReadConversation(object, where);
    if (conversation.id.empty()) conversation.id = std::to_string(all.size() + 1);
    if (!ids.insert(conversation.id).second) {
      throw InvalidInput(where + ": found the id " + conversation.id + " again, expected it once");
    }
    const Json category = object.value("category", Json(""));
    all.emplace_back(category.is_string() ? category.get<std::string>() : "",
                     std::move(conversation));
  }
  std::vector<Conversation> conversations =
      Chained(std::move(all), static_cast<std::size_t>(reader.Integer("chain", 1, 1, 1000)));
  const auto limit = static_cast<std::size_t>(reader.Integer("limit", 1 << 20, 1, 1 << 20));
  const auto turns = static_cast<std::size_t>(reader.Integer("turns", 1 << 20, 1, 1 << 20));
  if (conversations.size() > limit) conversations.resize(limit);
  for (Conversation& conversation : conversations) {
    if (conversation.turns.size() > turns) conversation.turns.resize(turns);
  }
  if (conversations.empty()) reader.Fail("conversations", value, "at least one conversation");
  return conversations;
}

}  // namespace

void ReadConversationWorkload(SettingReader& reader, const std::filesystem::path& path,
                              Config* config) {
  auto settings = std::make_shared<ConversationSettings>();
  settings->conversations = ReadConversations(reader, path);
  settings->windows = reader.Strings("window", {"none"});
  for (const std::string& rule : settings->windows) {
    reader.CheckOneOf("window", rule, {"none", "slide", "step"});
  }
  settings->keep = reader.Number("keep", 0.5, 0, 1);
  settings->form = reader.OneOf("template", "chat", {"chat", "raw", "dialogpt"});
  settings->context_tokens = static_cast<int>(reader.Integer("context_tokens", 0, 0, 1 << 20));
  settings->reply_tokens = static_cast<int>(reader.Integer("reply_tokens", 0, 0, 1 << 20));
  for (const std::string& rule : settings->windows) {
    for (const Conversation& conversation : settings->conversations) {
      for (std::size_t turn = 0; turn < conversation.turns.size(); ++turn) {
        const std::string id = fmt::format("{}/{}/{}", rule, conversation.id, turn + 1);
        config->test_prompts.push_back({.id = id,
                                        .group = rule,
                                        .text = conversation.turns[turn],
                                        .session = conversation.id,
                                        .turn = static_cast<int>(turn) + 1});
        config->cache_prompts.push_back({.id = id, .text = ""});
      }
    }
  }
  config->make_prompts = [settings](const Config& whole, const engine::PromptContext& context,
                                    const Reply& reply) {
    return Maker(*settings, whole, context, reply).Make();
  };
}

}  // namespace kvr::experiment::workloads

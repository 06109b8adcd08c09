// "conversation": multi-turn chats, each turn's prompt the whole history.
//
// Licence of the questions: that of the file that the user names; none is part of this project.
#pragma once

#include "kvr/experiment/workload.h"

namespace kvr::experiment::workloads {

void ReadConversationWorkload(SettingReader& reader, const std::filesystem::path& path,
                              Config* config);

inline constexpr Workload kConversation = {"conversation", ReadConversationWorkload};

}  // namespace kvr::experiment::workloads

# Writes the commit that is being built to ${OUT}; leaves the file alone where it says so already, so
# that nothing is compiled again.
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12
                OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
set(text "// Made by cmake/git_state.cmake; ends in -dirty where tracked files differ; empty: unknown.
#define KVR_COMMIT \"${commit}\"
")
if(EXISTS ${OUT})
  file(READ ${OUT} before)
endif()
if(NOT "${text}" STREQUAL "${before}")
  file(WRITE ${OUT} "${text}")
endif()

#include "kvr/cli/cli.h"

int main(int argc, char** argv) { return kvr::cli::Main(argc, argv); }

#!/usr/bin/env bash
# Proves that quickstart.sh and test.sh need nothing installed: runs one of them in an empty Debian
# 12 root, made by debootstrap, from a clean copy of HEAD.
#
# What a machine owner would set up comes in from this one: the settings of apt, pip and npm, the
# local folders that they name, certificates, name resolution and proxies. Everything mounted is
# read-only but /dev and /proc, in a mount namespace of its own, so that nothing stays mounted
# however this ends.
set -Eeuo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/clean_machine.sh [quickstart|test|setup STEP...] [OPTION...]

  quickstart         scripts/quickstart.sh (default)
  test               scripts/test.sh
  setup STEP...      scripts/setup.sh STEP...: packages dev-packages venv build models

  --root DIR         the folder for the root, kept afterwards and used again when it has one
                     (default: a temporary one, removed at the end)
  --keep             keep the temporary one too, and say where it is
  --mirror URL       Debian mirror (default: the one in apt's sources here)
  --working-tree     copy the working tree with its uncommitted changes, not HEAD

Needs root, debootstrap and 8 GB of disk.

examples:
  sudo scripts/clean_machine.sh
  sudo scripts/clean_machine.sh test --root /var/tmp/clean
  sudo scripts/clean_machine.sh setup packages venv --keep

exit codes: the script's own; 1 when torch came as a CUDA build; 2 bad usage; 4 no root or no
debootstrap, disk or network
TEXT
}

readonly SUITE=bookworm
readonly INCLUDE=python3,python3-venv,ca-certificates,git
readonly INSIDE=/root/kvr
readonly DISK_NEEDED_KB=8000000

say() { printf '[clean %4d s] %s\n' "$SECONDS" "$1" >&2; }

die() {
  printf 'clean_machine.sh: %s\n' "$1" >&2
  exit "${2:-4}"
}

bad_usage() {
  usage >&2
  die "$1" 2
}

# Arguments.

what=(scripts/quickstart.sh)
root="" keep=0 mirror="" working_tree=0
arguments=("$@")
while (($# > 0)); do
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
    quickstart | test) what=("scripts/$1.sh") ;;
    setup)
      what=(scripts/setup.sh)
      while (($# > 1)) && [[ $2 != -* ]]; do
        what+=("$2")
        shift
      done
      ;;
    --root | --mirror)
      (($# > 1)) || bad_usage "$1 wants a value"
      if [[ $1 == --root ]]; then root=$2 keep=1; else mirror=$2; fi
      shift
      ;;
    --keep) keep=1 ;;
    --working-tree) working_tree=1 ;;
    *) bad_usage "unknown argument $1" ;;
  esac
  shift
done

((EUID == 0)) || die "needs root, for debootstrap and chroot: sudo scripts/clean_machine.sh"
for tool in debootstrap unshare git tar; do
  command -v "$tool" >/dev/null || die "$tool is missing: apt-get install debootstrap git util-linux"
done
# A mount namespace: what is mounted in it goes with its last process, even after kill -9.
if [[ -z ${KVR_OWN_MOUNTS:-} ]]; then
  KVR_OWN_MOUNTS=1 exec unshare --mount --propagation private -- \
    bash "${BASH_SOURCE[0]}" "${arguments[@]+"${arguments[@]}"}"
fi
unset KVR_OWN_MOUNTS

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
if [[ -n $root ]]; then
  mkdir -p -- "$root"
else
  root=$(mktemp -d "${TMPDIR:-/tmp}/kvr-clean.XXXXXX")
fi
root=$(cd -- "$root" && pwd -P)
[[ $root != / ]] || die "--root / is this machine's own root" 2
# /proc/self/mountinfo writes such characters otherwise, and `mounts_below` would overlook mounts.
[[ $root != *[[:space:]\\]* ]] || die "$root: choose a path without spaces and backslashes" 2

# The way out: nothing is deleted while anything is mounted below.

mounts_below() { awk -v root="$root/" 'index($5, root) == 1 { print $5 }' /proc/self/mountinfo; }

on_exit() {
  local status=$? mounted
  cd /
  while mounted=$(mounts_below | tail -n 1) && [[ -n $mounted ]]; do
    umount --lazy -- "$mounted" || break
  done
  if ((keep)); then
    say "kept: $root ($(du -sh -- "$root" | cut -f 1))"
  elif [[ -n $(mounts_below) ]]; then
    say "still mounted below $root, so it is kept: $(mounts_below | tr '\n' ' ')"
  else
    rm -rf --one-file-system -- "$root"
  fi
  say "ended with exit $status"
  exit "$status"
}
trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

free_kb=$(df --output=avail -k -- "$root" | tail -n 1)
((free_kb > DISK_NEEDED_KB)) ||
  die "$root: $((free_kb / 1000000)) GB free, $((DISK_NEEDED_KB / 1000000)) GB needed; see --root"

# The root.

if [[ -z $mirror ]]; then
  mirror=$(apt-get indextargets --format "\$(RELEASE) \$(REPO_URI)" 'Created-By: Packages' 2>/dev/null |
    awk -v suite="$SUITE" '$1 == suite { print $2; exit }')
fi
if [[ -f $root/etc/debian_version ]]; then
  say "using the root in $root again"
else
  say "debootstrap: $SUITE, minbase with $INCLUDE"
  debootstrap --variant=minbase --include="$INCLUDE" "$SUITE" "$root" ${mirror:+"$mirror"} >&2 ||
    die "debootstrap failed: see above, and debootstrap/debootstrap.log in the root (--keep)"
  if [[ -e $root/usr/bin/c++ ]]; then
    die "the new root has a compiler already: it proves nothing" 1
  fi
fi

# Settings. bring PATH [TARGET]: a file or folder of this machine at the same or another path.
bring() {
  local path=$1 target=$root${2:-$1}
  [[ -f $path || -d $path ]] || return 0
  if [[ -d $path ]]; then
    mkdir -p -- "$target"
  else
    mkdir -p -- "$(dirname -- "$target")"
    [[ -e $target ]] || : >"$target"
  fi
  mount --bind -- "$path" "$target"
  mount -o remount,bind,ro -- "$target"
}

# Whether the root has nothing of its own there: neither a filled file nor a filled folder.
vacant() { [[ -z $(find "$root$1" -maxdepth 0 ! -empty 2>/dev/null) ]]; }

copy() {
  [[ -e $1 ]] || return 0
  mkdir -p -- "$root$(dirname -- "$1")"
  cp -rL --remove-destination -- "$1" "$root$(dirname -- "$1")/"
}

# Absolute paths, also behind file:, among the words read from standard input.
local_paths() {
  tr -s "[:space:]=,'\"" '\n' | sed -n 's,^file:/*/,/,; s,#.*,,; /^\/./p' | sort -u
}

settings_apt() {
  local file
  for file in /etc/hosts /etc/resolv.conf /usr/share/ca-certificates /usr/local/share/ca-certificates; do
    copy "$file"
  done
  # Followed links, so that a bundle or a certificate kept elsewhere comes along.
  mkdir -p "$root/etc/ssl/certs"
  find /etc/ssl/certs -mindepth 1 -maxdepth 1 -exec test -e {} \; \
    -exec cp -rL --remove-destination -t "$root/etc/ssl/certs" -- {} +
  # How to fetch, not the hooks, which name programs that the new root lacks.
  apt-config dump | grep -E '^Acquire::' | grep -v -i 'auto-detect' >"$root/etc/apt/apt.conf.d/90acquire" ||
    true
  # shellcheck disable=SC1091  # read for its codename
  if [[ $(. /etc/os-release && echo "${VERSION_CODENAME:-}") == "$SUITE" ]]; then
    rm -f -- "$root"/etc/apt/sources.list
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} \
      /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d /etc/apt/keyrings /usr/share/keyrings; do
      copy "$file"
    done
    while read -r file; do bring "$file"; done < <(
      cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null |
        grep -oE '\bfile:/[^[:space:]]+' | local_paths
    )
  fi
}

settings_pip() {
  local path values=() files=("${PIP_CONFIG_FILE:-}" /etc/xdg/pip/pip.conf /etc/pip.conf)
  for path in "${files[@]}"; do
    [[ -z $path ]] || bring "$path"
  done
  bring "$HOME/.config/pip/pip.conf" /root/.config/pip/pip.conf
  bring "$HOME/.pip/pip.conf" /root/.pip/pip.conf
  files+=("$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf")
  for path in "${!PIP_@}"; do values+=("${!path}"); done
  while read -r path; do
    # An index's pages link to files beside it: its parent folder comes along.
    if [[ $(basename -- "$path") == simple ]]; then path=$(dirname -- "$path"); fi
    case $path in
      /etc/ssl/certs/* | / | /dev/* | /proc/*) continue ;;
    esac
    if [[ -e $path ]] && vacant "$path"; then
      say "brought in for pip: $path"
      bring "$path"
    fi
  done < <({
    printf '%s\n' "${values[@]+"${values[@]}"}"
    for path in "${files[@]}"; do if [[ -f $path ]]; then cat -- "$path"; fi; done
  } | local_paths)
}

settings_npm() {
  bring /etc/npmrc
  bring "${NPM_CONFIG_GLOBALCONFIG:-/usr/etc/npmrc}"
  bring "${NPM_CONFIG_USERCONFIG:-$HOME/.npmrc}" "${NPM_CONFIG_USERCONFIG:-/root/.npmrc}"
}

say "bringing in the settings of apt, pip and npm"
settings_apt
settings_pip
settings_npm

environment=(HOME=/root "TERM=${TERM:-dumb}" LANG=C.UTF-8
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
while read -r name; do
  case $name in
    # These would redirect what is installed, or name programs that the new root lacks.
    KVR_PYTHON | PIP_REQUIRE_VIRTUALENV | PIP_TARGET | PIP_PREFIX | PIP_USER | PIP_CACHE_DIR) ;;
    PIP_* | NPM_CONFIG_* | npm_config_* | KVR_* | *_proxy | *_PROXY | SSL_CERT_FILE | \
      SSL_CERT_DIR | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE | GIT_SSL_CAINFO | NODE_EXTRA_CA_CERTS)
      environment+=("$name=${!name}")
      case ${!name} in
        /etc/ssl/certs*) ;;
        /*) if [[ -f ${!name} ]] && vacant "${!name}"; then bring "${!name}"; fi ;;
      esac
      ;;
  esac
done < <(compgen -e)

# The project: what is committed, and nothing that a build here left behind.

if [[ -n $(git -C "$repository" status --porcelain) ]] && ((!working_tree)); then
  say "uncommitted changes are left out: this tests HEAD (--working-tree takes them)"
fi
rm -rf -- "${root:?}$INSIDE"
git clone --quiet --no-hardlinks "$repository" "$root$INSIDE"
if ((working_tree)); then
  git -C "$repository" ls-files -z --cached --others --exclude-standard |
    (cd -- "$repository" && while IFS= read -r -d '' file; do
      if [[ -e $file ]]; then printf '%s\0' "$file"; fi
    done) |
    tar -C "$repository" --null --files-from=- -cf - | tar -C "$root$INSIDE" -xf -
fi

[[ -x $root$INSIDE/${what[0]} ]] ||
  die "${what[0]} isn't in HEAD: commit it, or take --working-tree" 2

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"

inside() { env -i "${environment[@]}" chroot "$root" bash -c "cd $INSIDE && exec \"\$@\"" - "$@"; }

say "running ${what[*]} in $root"
started=$SECONDS
status=0
inside "${what[@]}" || status=$?
say "${what[*]}: exit $status after $((SECONDS - started)) s"
((status == 0)) || exit "$status"

if [[ -x $root$INSIDE/.venv/bin/python ]]; then
  build=$(inside .venv/bin/python -c 'import torch; print(torch.__version__, torch.version.cuda)')
  say "torch: $build"
  [[ $build == *" None" ]] ||
    die "torch came as a CUDA build: name an index of CPU wheels in KVR_TORCH_INDEX" 1
fi

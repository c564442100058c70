#!/usr/bin/env bash
# Installs, with apt-get, the servers and the browser that some tests meet: those named, else all of them but the font.
#   install-system-packages.sh [--strict] [chromium] [postgresql] [redis] [cjk-font]
# Says what could not be installed and ends well (the tests in need of it skip); with --strict it ends with 1.
set -euo pipefail

present() {
  case $1 in
    chromium) command -v chromium || command -v chromium-browser || command -v google-chrome ;;
    postgresql) command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' ;;
    redis) command -v redis-server ;;
    cjk-font) compgen -G '/usr/share/fonts/truetype/wqy/*' || compgen -G '/usr/share/fonts/opentype/noto/*CJK*' ;;
    *) echo "$0: '$1' is none of chromium, postgresql, redis, cjk-font" >&2; exit 2 ;;
  esac > /dev/null
}

package() {
  case $1 in
    redis) echo redis-server ;;
    cjk-font) echo fonts-wqy-zenhei ;;
    *) echo "$1" ;;
  esac
}

strict=false
wanted=()
for word in "$@"; do
  if [ "$word" = --strict ]; then strict=true; else wanted+=("$word"); fi
done
[ ${#wanted[@]} -gt 0 ] || wanted=(chromium postgresql redis)

missing=()
for name in "${wanted[@]}"; do present "$name" || missing+=("$name"); done
[ ${#missing[@]} -gt 0 ] || exit 0

packages=()
for name in "${missing[@]}"; do packages+=("$(package "$name")"); done

as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
refuse() {
  echo "Not installed: ${missing[*]} ($1). Install them by hand: ${packages[*]}. Tests that need them are skipped." >&2
  if $strict; then exit 1; else exit 0; fi
}
command -v apt-get > /dev/null || refuse 'this system has no apt-get'
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo > /dev/null || refuse 'needs root, and there is no sudo'
  if [ -t 0 ]; then echo "Installing ${packages[*]} with sudo apt-get." >&2
  else sudo -n true 2> /dev/null || refuse 'needs root, and sudo would ask for a password'; fi
fi

apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@" < /dev/null
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "Installing ${packages[*]} with apt-get (once) ..." >&2
if ! { apt update && apt install --yes --no-install-recommends "${packages[@]}"; } > "$log" 2>&1; then
  tail -n 5 "$log" >&2
  refuse 'apt-get failed, as above'
fi

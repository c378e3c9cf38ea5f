#!/usr/bin/env bash
# Makes sure that git-lfs is there: git's transfers and their tests need it, and no Python package carries it.
set -euo pipefail
git lfs version >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -qq git-lfs >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq git-lfs >/dev/null; }
  git lfs version >/dev/null
else
  echo "git-lfs is missing: install it (Debian: apt-get install git-lfs; macOS: brew install git-lfs) and try again" >&2
  exit 1
fi

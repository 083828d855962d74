#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Install the programs and libraries that the tests compare with (Debian, Ubuntu).
# Does nothing where they are all there; elsewhere than on apt, or not as root, says what is missing.
set -euo pipefail

packages=(lttng-tools liblttng-ust-dev babeltrace2 python3-bt2 python3-lttngust zstd gcc)

absent=()
if command -v dpkg-query >/dev/null; then
    for package in "${packages[@]}"; do
        # gcc may have come from elsewhere; the others are packages or absent.
        [ "$package" = gcc ] && command -v gcc >/dev/null && continue
        state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || state=
        [ "$state" = installed ] || absent+=("$package")
    done
else
    for program in lttng lttng-sessiond babeltrace2 zstd gcc; do
        command -v "$program" >/dev/null || absent+=("$program")
    done
fi
[ ${#absent[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "peers: not installed: ${absent[*]} (needs root and apt)" >&2
    exit 0
fi

# lttng-tools starts a root lttng-sessiond on installation, which would take the sockets the
# tests need. A policy-rc.d that says no keeps services from starting; an administrator's own
# one is left alone.
policy=/usr/sbin/policy-rc.d
own_policy=
cleanup() { [ -z "$own_policy" ] || rm -f "$policy"; }
trap cleanup EXIT
if [ ! -e "$policy" ] && [ ! -L "$policy" ]; then
    own_policy=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

running_before=$(cat /var/run/lttng/lttng-sessiond.pid 2>/dev/null || true)
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -y -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
# The timeout covers dpkg's lock only, not that of the package lists.
for attempt in 1 2 3 4 5 6; do
    "${apt[@]}" update </dev/null && break
    [ "$attempt" -lt 6 ] || exit 1
    sleep 10
done
"${apt[@]}" install --no-install-recommends "${absent[@]}" </dev/null

# An administrator's policy may have let it start all the same: end only what we caused.
running_now=$(cat /var/run/lttng/lttng-sessiond.pid 2>/dev/null || true)
if [ -n "$running_now" ] && [ "$running_now" != "$running_before" ] &&
    [ "$(cat "/proc/$running_now/comm" 2>/dev/null)" = lttng-sessiond ]; then
    kill "$running_now"
fi

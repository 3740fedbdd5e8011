#!/bin/sh
# scripts/debian_package.sh PACKAGE [COMMAND]: makes sure that a command is there, from the Debian package.
set -eu
package=$1
command=${2:-$1}
PATH=$PATH:/usr/sbin:/sbin
if command -v "$command"; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "$command is missing: install the package $package" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
{
    # Services a package brings are not to start.
    RUNLEVEL=1 apt-get install --yes --no-install-recommends "$package" ||
        { apt-get update && RUNLEVEL=1 apt-get install --yes --no-install-recommends "$package"; }
} >&2
command -v "$command"

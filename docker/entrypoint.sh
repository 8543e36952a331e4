#!/bin/sh
# What a container begins with: `docker run IMAGE serve` is `vbot-campaign serve`, `docker run IMAGE -- PROGRAM` is
# another program. It gives way to it (exec), so that the SIGTERM of `docker stop` reaches the program itself, which
# stops with checkpoints.
#
# Secrets come as files, so that they stand in no compose file and in no `docker inspect`:
#   VBOT_CAMPAIGN_TOKEN_FILE   the token of the pages
#   PGPASSWORD_FILE            the password of the database, left out of VBOT_CAMPAIGN_STORAGE
set -eu

secret() {
    if [ ! -f "$2" ] || [ ! -r "$2" ]; then
        echo "error: $1=$2: no such file, or user $(id -u) may not read it. Mount the secret there, readable by that user." >&2
        exit 2
    fi
    cat -- "$2"
}

if [ -n "${VBOT_CAMPAIGN_TOKEN_FILE:-}" ]; then
    VBOT_CAMPAIGN_TOKEN=$(secret VBOT_CAMPAIGN_TOKEN_FILE "$VBOT_CAMPAIGN_TOKEN_FILE")
    export VBOT_CAMPAIGN_TOKEN
fi

if [ -n "${PGPASSWORD_FILE:-}" ]; then
    password=$(secret PGPASSWORD_FILE "$PGPASSWORD_FILE")
    # Not in a variable: whatever is started would inherit it, trainers too. libpq wants this file to be ours alone.
    PGPASSFILE=$(umask 077 && mktemp)
    export PGPASSFILE
    printf '*:*:*:*:%s\n' "$(printf %s "$password" | sed 's/[\\:]/\\&/g')" >"$PGPASSFILE"
    unset password
fi

if [ "${1:-}" = -- ]; then
    shift
    exec "$@"
fi
exec vbot-campaign "$@"

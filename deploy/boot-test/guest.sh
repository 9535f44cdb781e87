#!/bin/sh
# Runs once, as root, inside the machine that `cargo xtask boot-test` has booted; /payload holds the package. Prints a line
# for each check, and at the end how many passed and failed. Software emulation is slow, so budgets and patience are large.
#
# Every command of docs/deploy.md stands here as it stands there; tests/tests/deploy_page.rs holds the two together.
set -u
export DEBIAN_FRONTEND=noninteractive
# Not the console: what draws there would draw over the lines that are read.
exec 2>/tmp/errors

server=http://127.0.0.1:3456
env_file=/etc/void-wasm/void-wasm.env
unit=void-wasm.service
passed=0
failed=0

check() {
    name=$1
    shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1))
        echo "ok $((passed + failed)) - $name"
    else
        failed=$((failed + 1))
        echo "not ok $((passed + failed)) - $name"
        printf '%s\n' "$output" | head -n 20 | sed 's/^/#   /'
        { journalctl -u void-wasm -b -o cat -n 6; dmesg | tail -n 3; } | sed 's/^/#   log: /'
    fi
}

# Tries for two minutes.
eventually() {
    tries=0
    until output=$("$@" 2>&1); do
        tries=$((tries + 1))
        if [ "$tries" -ge 240 ]; then
            printf '%s\n' "$output"
            return 1
        fi
        sleep 0.5
    done
}

# Whether $1 is $2.
is() {
    [ "$1" = "$2" ] || { echo "it is $1 and should be $2"; return 1; }
}
# Whether $1 has $2 in it.
has() {
    case "$1" in *"$2"*) ;; *) echo "$1"; return 1 ;; esac
}
fails() { ! "$@"; }

property() { systemctl show --property="$1" --value "$unit"; }
property_is() { is "$(property "$1")" "$2"; }
newer_than() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

# $1 is NAME=value.
set_variable() {
    sed -i "/^#\{0,1\}${1%%=*}=/d" "$env_file"
    echo "$1" >>"$env_file"
}

get() { curl -sS --max-time 120 "$@"; }
status_of() { curl -sS --max-time 120 -o /dev/null -w '%{http_code}' "$@"; }
answers() { is "$(status_of "$server$1")" "$2"; }
says() { has "$(get "$server$1")" "$2"; }

# A request to run the module that was uploaded; more is for curl.
request() {
    get "$@" --json "{\"target\":{\"cid\":\"$cid\"},\"entry\":\"add\",\"args\":[2,3]}" "$server/v1/exec"
}
request_says() { has "$(request)" "$1"; }
adds() { is "$(void-wasm exec ./add.wasm --entry 'add(i32,i32)->i32' --i32 2 --i32 3 --wait)" 5; }
cid_of() { void-wasm modules push "$1" --json | sed 's/.*"cid": *"\([a-z0-9]*\)".*/\1/;q'; }
run_id_in() { sed 's/.*"run_id": *"\([a-z0-9_]*\)".*/\1/'; }

reload() { systemctl reload void-wasm; }
# With systemd 253 a reload is over when the command returns; before, it is a moment later.
after_reload() {
    if newer_than "$systemd" 253; then "$@"; else eventually "$@"; fi
}

record_is_there() { is "$(get "$server/v1/runs/$run")" "$record"; }
restarted_since() {
    property_is ActiveState active && property_is SubState running && [ "$(property MainPID)" != "$1" ]
}
# A service that does not run has the number 0, which would be this script.
signalled() { [ "$2" -gt 0 ] && kill -s "$1" "$2"; }
no_process() { ! pgrep -x "$1"; }
has_no_processes() {
    [ -z "$(ps -e -o comm= | grep '^void-')" ] || { ps -e -o pid,comm | grep void-; return 1; }
}
# Complaints of systemd about the unit's text, but for the line that is for newer ones.
unit_is_understood() {
    systemctl cat void-wasm.service void-wasm.socket >/dev/null || return 1
    complaints=$(journalctl -b -o cat | grep -E 'void-wasm\.(service|socket):[0-9]+:|Unknown (key|lvalue)' | grep -v notify-reload)
    [ -z "$complaints" ] || { echo "$complaints"; return 1; }
}
log_says() { journalctl -u void-wasm -b -o cat | grep -q -- "$1"; }
status_shows() { has "$(systemctl status void-wasm 2>&1)" "$1"; }
policy_shows() { void-wasm policy | grep -q -- "$1"; }
shares_the_network() { is "$(readlink "/proc/$(property MainPID)/ns/net")" "$(readlink /proc/self/ns/net)"; }
are_gone() { is "$(ls -d "$@" 2>/dev/null)" ''; }

# Starts by hand are among the five that systemd allows in five minutes.
count_anew() { systemctl reset-failed void-wasm; }

# Runs the command $1, which opens an editor and wants a terminal, and writes stdin there.
edited() {
    cat >/tmp/edited
    printf '#!/bin/sh\nfor file; do :; done\ncat /tmp/edited >"$file"\n' >/tmp/editor
    chmod +x /tmp/editor
    SYSTEMD_EDITOR=/tmp/editor script -qec "$1" /dev/null </dev/null
}

systemd=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
kernel=$(uname -r)
weaker=
cd /payload || exit
echo 'APT::Get::Assume-Yes "true";' >/etc/apt/apt.conf.d/boot-test
echo
echo "# $(. /etc/os-release && echo "$PRETTY_NAME"), Linux $kernel, systemd $systemd"

check "the package installs" apt-get install ./void-wasm_0.1.0_amd64.deb
check "systemd understands the units" unit_is_understood
check "the unit's exposure is at most 2.0" systemd-analyze security void-wasm --no-pager --threshold=20

if newer_than "$kernel" 6.10; then
    check "installed, it runs" eventually property_is ActiveState active
    check "every layer of isolation stands" eventually says /v1/policy '"layers_missing":[]'
else
    weaker=WASM_ALLOW_WEAKER_ISOLATION=1
    check "a kernel without mseal is refused" eventually property_is ActiveState failed
    check "with the exit code for a missing layer" property_is ExecMainStatus 69
    check "its status shows the code" status_shows status=69
    check "the log names the layer, and the call that is missing" log_says 'layer `memory` .*mseal'
    set_variable $weaker
    check "told to, it starts without it" systemctl restart void-wasm
    check "only that layer is missing" says /v1/policy '"seccomp"],"layers_missing":[{"layer":"memory",'
    check "and no other" fails says /v1/policy '},{"layer":'
    check "the command shows it" policy_shows '^layers_missing.*memory'
    check "the metric says so" says /metrics 'void_wasm_isolation_layer{layer="memory"} 0'
fi
check "its status says that it runs" status_shows 'active (running)'
check "it runs as a user of its own" is "$(ps -o user:32= -p "$(property MainPID)" | tr -d ' ')" void-wasm
check "memory and processes are limited" \
    sh -c "test $(property MemoryMax) != infinity && test $(property TasksMax) != infinity"
check "by default it is not ready to run anything" answers /readyz 503

set_variable WASM_EXEC_ENABLED=1
set_variable WASM_EXEC_CANARY=1
set_variable WASM_CPU_MS_BUDGET=60000
set_variable WASM_WALL_MS_BUDGET=120000
check "a reload succeeds" reload
check "enabled, it is ready" after_reload answers /readyz 200
check "a module is uploaded and run" adds
cid=$(cid_of ./add.wasm)
run=$(request -H 'prefer: wait=60' | run_id_in)
record=$(get "$server/v1/runs/$run")
check "the record of a run holds its result" says "/v1/runs/$run" '"result":5'

set_variable WASM_EXEC_FREEZE=1
check "a reload into a freeze succeeds" reload
check "the next request is frozen" after_reload request_says '"mode":"frozen"'
sed -i '/^WASM_EXEC_FREEZE=/d' "$env_file"
check "a reload without that line succeeds" reload
check "thawed, it runs again" after_reload adds
set_variable WASM_EXEC_CANARY=0
reload
check "with a share of 0 nothing executes" after_reload request_says '"mode":"dry-run"'
set_variable WASM_EXEC_ENABLED=0
reload
check "disabled, requests are refused" after_reload request_says '"code":"disabled"'
set_variable WASM_EXEC_CANARY=maybe
set_variable WASM_EXEC_ENABLED=1
reload
check "the log names the mistake" eventually log_says 'WASM_EXEC_CANARY is .*maybe'
check "a file with a mistake changes nothing" request_says '"code":"disabled"'
set_variable WASM_EXEC_CANARY=1
reload
check "mended, it runs again" after_reload adds

looping=$(get --json "{\"target\":{\"cid\":\"$(cid_of ./spin.wasm)\"},\"entry\":\"spin\"}" "$server/v1/exec" | run_id_in)
check "a long run is under way" eventually says "/v1/runs/$looping" '"status":"running"'
main=$(property MainPID)
check "it is killed" signalled KILL "$main"
check "killed, it is started again by systemd" eventually restarted_since "$main"
check "the record is as it was" eventually record_is_there
check "the run that it died under is interrupted" eventually says "/v1/runs/$looping" '"reason":"interrupted"'
check "no guest has outlived it" eventually no_process void-run
check "it runs again" adds

check "a stop drains" systemctl stop void-wasm.service
check "and ends with success" property_is Result success
check "a stop leaves no process" has_no_processes
check "the first connection starts it again" record_is_there
check "by its socket" property_is ActiveState active

# A clock that programs cannot read without the kernel, as some machines have; an emulated one may change to it by itself.
clock=/sys/devices/system/clocksource/clocksource0/current_clocksource
usual=$(cat "$clock")
echo acpi_pm >"$clock"
count_anew
check "with a clock that only the kernel can read it starts" systemctl restart void-wasm
check "and compiles" eventually void-wasm modules push ./spin.wasm
check "and runs" adds
echo "$usual" >"$clock"

# Other limits, and a log that says less.
count_anew
edited 'systemctl edit void-wasm' <<'INI'
[Service]
MemoryMax=1G
Environment=RUST_LOG=void_supervisor=warn
INI
check "with other limits it starts again" systemctl restart void-wasm
check "they hold" property_is MemoryMax 1073741824
check "and its log says as little as it was told to" is "$(journalctl "_SYSTEMD_INVOCATION_ID=$(property InvocationID)" -o cat | grep -c INFO)" 0
systemctl revert void-wasm

# The machine's network, and no socket unit.
count_anew
check "without it, the network is its own" fails shares_the_network
with_network() {
    install -D -m 0644 /usr/share/void-wasm/systemd/network.conf /etc/systemd/system/void-wasm.service.d/network.conf
    systemctl daemon-reload
    systemctl restart void-wasm
}
check "with a file more it starts" with_network
check "in the machine's network" shares_the_network
without_socket() {
    systemctl disable --now void-wasm.socket && systemctl mask void-wasm.socket
    systemctl restart void-wasm
}
check "without the socket it starts" without_socket
check "and listens by itself" record_is_there
systemctl stop "$unit"
systemctl unmask --quiet void-wasm.socket
rm /etc/systemd/system/void-wasm.service.d/network.conf
systemctl daemon-reload
check "the socket comes back" systemctl enable --now void-wasm.socket

# An address that others reach, which this machine has from here on, and tokens.
count_anew
printf '[Match]\nName=lo\n[Network]\nAddress=192.0.2.1/32\n' >/etc/systemd/network/lo.network
systemctl start systemd-networkd
edited 'systemctl edit void-wasm.socket' <<'INI'
[Socket]
ListenStream=
ListenStream=192.0.2.1:3456
ListenStream=/run/void-wasm.sock
INI
elsewhere() {
    systemctl stop void-wasm.service && systemctl restart void-wasm.socket && systemctl start void-wasm.service
}
check "where others reach it, it does not start without tokens" fails elsewhere
check "with the exit code for a setting" property_is ExecMainStatus 78
check "the log says what is missing" log_says '192.0.2.1:3456 can be reached .*WASM_API_TOKENS_FILE'
install -m 0600 /dev/stdin /etc/void-wasm/credentials/tokens <<'TOKENS'
# tenant token
anna change-me-to-something-long-and-random
TOKENS
set_variable WASM_API_TOKENS_FILE=/run/credentials/void-wasm.service/void-wasm_tokens
count_anew
check "it starts with tokens from a credential" elsewhere
token='authorization: Bearer change-me-to-something-long-and-random'
runs=http://192.0.2.1:3456/v1/runs
check "nobody comes in without one" is "$(status_of "$runs")" 401
check "with one, somebody does" is "$(status_of -H "$token" "$runs")" 200
check "and by the Unix socket" is "$(status_of -H "$token" --unix-socket /run/void-wasm.sock http://localhost/v1/runs)" 200
sed -i 's/^anna .*/anna another-token-that-is-long-enough/' /etc/void-wasm/credentials/tokens
check "new tokens take a restart" systemctl restart void-wasm
check "and the old ones are none" is "$(status_of -H "$token" "$runs")" 401
set_variable WASM_API_TOKENS_FILE=
systemctl revert void-wasm.socket
count_anew
check "without tokens it listens where it did" elsewhere
check "and answers there" record_is_there

count_anew
mkdir -p /etc/systemd/system/void-wasm.service.d
printf '[Service]\nWatchdogSec=10s\n' >/etc/systemd/system/void-wasm.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart "$unit"
main=$(property MainPID)
check "it is made to hang" signalled STOP "$main"
check "hanging, it is ended by the watchdog and started again" eventually restarted_since "$main"
rm /etc/systemd/system/void-wasm.service.d/watchdog.conf
systemctl daemon-reload

count_anew
if [ -e /etc/apparmor.d/abi/4.0 ]; then
    with_profile() {
        install -m 0644 /usr/share/void-wasm/apparmor/void-wasm /etc/apparmor.d/void-wasm
        apparmor_parser --replace /etc/apparmor.d/void-wasm
    }
    check "the AppArmor profile is taken" with_profile
    check "under it, it starts" systemctl restart void-wasm
    check "its workers have it" grep -q '^void-wasm ' "/proc/$(pgrep -o -x void-spawner)/attr/current"
    check "and run" adds
fi

upgrade() { dpkg -i ./void-wasm_0.1.0_amd64.deb && grep -q '^WASM_EXEC_ENABLED=1' "$env_file"; }
check "an upgrade keeps the settings" upgrade
check "and the records" eventually record_is_there
check "the package goes" apt-get remove void-wasm
check "with its processes" has_no_processes
check "its settings and state stay" ls "$env_file" /var/lib/void-wasm/void.db
check "with a purge" apt-get purge void-wasm
check "they go" are_gone /var/lib/void-wasm /var/cache/void-wasm /etc/void-wasm /etc/apparmor.d/void-wasm

# By hand; the machine that ran this test has called `cargo xtask install`.
userdel void-wasm
cp -r --preserve=mode by-hand/. /
by_hand() {
    systemd-sysusers /usr/local/lib/sysusers.d/void-wasm.conf &&
        chown root:void-wasm /etc/void-wasm /etc/void-wasm/void-wasm.env &&
        chmod 0750 /etc/void-wasm && chmod 0640 /etc/void-wasm/void-wasm.env &&
        systemctl daemon-reload &&
        systemctl enable --now void-wasm.socket void-wasm.service
}
[ -z "$weaker" ] || set_variable "$weaker"
check "installed by hand it starts" by_hand
check "from where it was put" has "$(readlink "/proc/$(property MainPID)/exe")" /usr/local/lib/void-wasm/
check "and answers" answers /readyz 503

if [ "$failed" -gt 0 ]; then
    journalctl -b -o short-monotonic -u void-wasm.service -u void-wasm.socket | tail -n 60 | sed 's/^/#   /'
    sed 's/^/#   /' /tmp/errors
fi
echo "boot-test: $passed passed, $failed failed"

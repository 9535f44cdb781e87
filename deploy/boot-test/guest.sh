#!/bin/sh
# Runs once, as root, inside the machine that `cargo xtask boot-test` has booted; /payload holds the package. Prints a line
# for each check, and at the end how many passed and failed. Software emulation is slow, so budgets and patience are large.
set -u

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

property() { systemctl show --property="$1" --value "$unit"; }
property_is() { is "$(property "$1")" "$2"; }
newer_than() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

set_variable() {
    sed -i "/^#\{0,1\}$1=/d" "$env_file"
    echo "$1=$2" >>"$env_file"
}

get() { curl -sS --max-time 120 "$@"; }
status_of() { curl -sS --max-time 120 -o /dev/null -w '%{http_code}' "$@"; }
answers() { is "$(status_of "$server$1")" "$2"; }

# A request to run the module that was uploaded; $1 is more for curl.
request() {
    get "$@" --json "{\"target\":{\"cid\":\"$cid\"},\"entry\":\"add\",\"args\":[2,3]}" "$server/v1/exec"
}
request_says() { answer=$(request); case "$answer" in *"$1"*) ;; *) echo "$answer"; return 1 ;; esac; }
says() { answer=$(get "$server$1"); case "$answer" in *"$2"*) ;; *) echo "$answer"; return 1 ;; esac; }
adds() { is "$(void-wasm exec /payload/add.wasm --entry 'add(i32,i32)->i32' --i32 2 --i32 3 --wait)" 5; }

# With systemd 253 a reload is over when the command returns; before, it is a moment later.
after_reload() {
    if newer_than "$systemd" 253; then "$@"; else eventually "$@"; fi
}

record_is_there() { is "$(get "$server/v1/runs/$run")" "$record"; }
restarted_since() {
    property_is ActiveState active && property_is SubState running && [ "$(property MainPID)" != "$1" ]
}
no_process() { ! pgrep -x "$1"; }
has_no_processes() {
    [ -z "$(ps -e -o comm= | grep '^void-')" ] || { ps -e -o pid,comm | grep void-; return 1; }
}
# Complaints of systemd about the unit's text, but for the line that is for newer ones.
unit_is_understood() {
    complaints=$(journalctl -b -o cat | grep -E 'void-wasm\.(service|socket):[0-9]+:|Unknown (key|lvalue)' | grep -v notify-reload)
    [ -z "$complaints" ] || { echo "$complaints"; return 1; }
}
log_says() { journalctl -b -u "$unit" -o cat | grep -q -- "$1"; }

systemd=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
kernel=$(uname -r)
echo
echo "# $(. /etc/os-release && echo "$PRETTY_NAME"), Linux $kernel, systemd $systemd"

check "the package installs" dpkg -i /payload/void-wasm.deb
check "systemd understands the units" unit_is_understood
check "the unit's exposure is at most 2.0" systemd-analyze security --no-pager --threshold=20 "$unit"
if [ -e /etc/apparmor.d/abi/4.0 ]; then
    check "the AppArmor profile is one" \
        apparmor_parser --skip-kernel-load --skip-cache /usr/share/void-wasm/apparmor/void-wasm
fi

if newer_than "$kernel" 6.10; then
    check "installed, it runs" eventually property_is ActiveState active
    check "every layer of isolation stands" eventually says /v1/policy '"missing":[]'
else
    check "a kernel without mseal is refused" eventually property_is ActiveState failed
    check "with the exit code for a missing layer" property_is ExecMainStatus 69
    check "the log names the call that is missing" log_says mseal
    set_variable WASM_ALLOW_WEAKER_ISOLATION 1
    systemctl reset-failed void-wasm.service void-wasm.socket
    check "told to, it starts without it" systemctl restart void-wasm.socket "$unit"
    check "only that layer is missing" eventually says /v1/policy '"missing":[{"detail":"mseal'
    check "the metric says so" says /metrics 'void_wasm_isolation_layer{layer="memory"} 0'
fi
check "it runs as a user of its own" is "$(ps -o user:32= -p "$(property MainPID)" | tr -d ' ')" void-wasm
check "memory and processes are limited" \
    sh -c "test $(property MemoryMax) != infinity && test $(property TasksMax) != infinity"
check "by default it is not ready to run anything" answers /readyz 503

set_variable WASM_EXEC_ENABLED 1
set_variable WASM_EXEC_CANARY 1
set_variable WASM_CPU_MS_BUDGET 60000
set_variable WASM_WALL_MS_BUDGET 120000
check "a reload succeeds" systemctl reload "$unit"
check "enabled, it is ready" after_reload answers /readyz 200
check "a module is uploaded and run" adds
cid=$(void-wasm modules push /payload/add.wasm --json | sed 's/.*"cid": *"\([a-z0-9]*\)".*/\1/;q')
run=$(request -H 'prefer: wait=60' | sed 's/.*"run_id": *"\([a-z0-9_]*\)".*/\1/')
record=$(get "$server/v1/runs/$run")
check "the record of a run holds its result" says "/v1/runs/$run" '"result":5'

set_variable WASM_EXEC_FREEZE 1
check "a reload into a freeze succeeds" systemctl reload "$unit"
check "the next request is frozen" after_reload request_says '"mode":"frozen"'
sed -i '/^WASM_EXEC_FREEZE=/d' "$env_file"
check "a reload without that line succeeds" systemctl reload "$unit"
check "thawed, it runs again" after_reload adds
set_variable WASM_EXEC_CANARY 0
systemctl reload "$unit"
check "with a share of 0 nothing executes" after_reload request_says '"mode":"dry-run"'
set_variable WASM_EXEC_ENABLED 0
systemctl reload "$unit"
check "disabled, requests are refused" after_reload request_says '"code":"disabled"'
set_variable WASM_EXEC_CANARY maybe
set_variable WASM_EXEC_ENABLED 1
systemctl reload "$unit"
check "a file with a mistake changes nothing" request_says '"code":"disabled"'
check "the log names the mistake" eventually log_says 'WASM_EXEC_CANARY is .*maybe'
set_variable WASM_EXEC_CANARY 1
systemctl reload "$unit"
check "mended, it runs again" after_reload adds

looping=$(get --json "{\"target\":{\"cid\":\"$(void-wasm modules push /payload/spin.wasm --json |
    sed 's/.*"cid": *"\([a-z0-9]*\)".*/\1/;q')\"},\"entry\":\"spin\"}" "$server/v1/exec" |
    sed 's/.*"run_id": *"\([a-z0-9_]*\)".*/\1/')
check "a long run is under way" eventually says "/v1/runs/$looping" '"status":"running"'
main=$(property MainPID)
kill -9 "$main"
check "killed, it is started again by systemd" eventually restarted_since "$main"
check "the record is as it was" eventually record_is_there
check "the run that it died under is interrupted" eventually says "/v1/runs/$looping" '"reason":"interrupted"'
check "no guest has outlived it" eventually no_process void-run
check "it runs again" adds

check "a stop drains" systemctl stop "$unit"
check "and ends with success" property_is Result success
check "a stop leaves no process" has_no_processes
check "the first connection starts it again" record_is_there
check "by its socket" property_is ActiveState active

mkdir -p /etc/systemd/system/void-wasm.service.d
cp /usr/share/void-wasm/systemd/network.conf /etc/systemd/system/void-wasm.service.d/
systemctl daemon-reload
systemctl stop void-wasm.socket "$unit"
systemctl mask --quiet void-wasm.socket
check "without the socket it starts" systemctl restart "$unit"
check "and listens by itself" record_is_there
systemctl stop "$unit"
systemctl unmask --quiet void-wasm.socket
rm /etc/systemd/system/void-wasm.service.d/network.conf
systemctl daemon-reload

(umask 077 && echo 'anna anna-token-0123456789abcdef' >/etc/void-wasm/credentials/tokens)
set_variable WASM_API_TOKENS_FILE /run/credentials/void-wasm.service/void-wasm_tokens
check "it starts with tokens from a credential" systemctl restart "$unit"
check "nobody comes in without one" answers /v1/runs 401
check "with one, somebody does" \
    is "$(status_of -H 'authorization: Bearer anna-token-0123456789abcdef' "$server/v1/runs")" 200
set_variable WASM_API_TOKENS_FILE ''

printf '[Service]\nWatchdogSec=10s\n' >/etc/systemd/system/void-wasm.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart "$unit"
main=$(property MainPID)
kill -STOP "$main"
check "hanging, it is ended by the watchdog and started again" eventually restarted_since "$main"
rm /etc/systemd/system/void-wasm.service.d/watchdog.conf
systemctl daemon-reload

check "an upgrade keeps the settings" sh -c "dpkg -i /payload/void-wasm.deb && grep -q '^WASM_EXEC_ENABLED=1' $env_file"
check "and the records" eventually record_is_there
check "the package goes" dpkg --purge void-wasm
check "with its processes" has_no_processes
check "and its state" sh -c '! ls -d /var/lib/void-wasm /var/cache/void-wasm /etc/void-wasm 2>/dev/null'

if [ "$failed" -gt 0 ]; then
    journalctl -b -o short-monotonic -u void-wasm.service -u void-wasm.socket | tail -n 60 | sed 's/^/#   /'
fi
echo "boot-test: $passed passed, $failed failed"

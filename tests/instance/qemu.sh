#!/bin/bash
PATH=/usr/bin:/bin
for word; do
    case "$word" in
    socket,id=console,fd=*) console=${word##*fd=} ;;
    socket,id=qmp,fd=*) qmp=${word##*fd=} ;;
    socket,id=agent,fd=*) agent=${word##*fd=} ;;
    local,*,path=*) share=${word##*,path=} share=${share%%,*} ;;
    esac
done
key="$share/secrets/ssh_host_ed25519_key"
qmp() { printf '%s\n' "$1" >&"$qmp"; }
tell() { printf '{"event":"%s"%s}\n' "$1" "${2-}" >&"$agent"; }
show() { printf '%s\r\n' "$1" >&"$console"; }
ready() { tell ready ',"uptime_ms":1'; }
reset() { qmp '{"event": "RESET", "data": {"guest": true, "reason": "guest-reset"}}'; }
power_down() { qmp '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}'; exit 0; }
guest() { ready; }
source "${0%/*}/guest"
qmp '{"QMP": {}}'
while read -r line <&"$qmp"; do
    id=${line##*\"id\":} id=${id%%[,\}]*} value='{}'
    case "$line" in
    *query-kvm*) value='{"enabled": false, "present": true}' ;;
    *info\ usernet*) value='"TCP[HOST_FORWARD]  13  127.0.0.1 40123  10.0.2.15  22  0  0\r\n"' ;;
    *query-status*) value='{"status": "running"}' ;;
    esac
    qmp "{\"return\": $value, \"id\": $id}"
    case "$line" in
    *qmp_capabilities*) guest & ;;
    *system_powerdown*) power_down ;;
    *\"quit\"*) exit 0 ;;
    esac
done

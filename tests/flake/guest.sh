#!/bin/sh
# guest.sh BASE DISK: a disk whose system does at boot what a NixOS does in its stage 2, as far as the tests look at it:
# it mounts the store, and runs the activation script of the system that the kernel's command line names.
set -e
base=$1 disk=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/unit" <<'UNIT'
[Unit]
Description=Activation of the system in the store
DefaultDependencies=no
After=local-fs.target
Before=ssh.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /etc/activate
[Install]
WantedBy=multi-user.target
UNIT
cat >"$dir/activate" <<'SCRIPT'
set -e
init=$(sed 's/.*init=\([^ ]*\).*/\1/' /proc/cmdline)
system=${init%/init}
store=${system%/*}
mkdir -p "$store"
modprobe 9p 9pnet_virtio || true
for tag in nix-store store; do
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro "$tag" "$store" 2>/dev/null && break
done
mountpoint -q "$store" || { modprobe virtiofs; mount -t virtiofs -o ro nix-store "$store"; }
exec "$system/activate"
SCRIPT
qemu-img convert -O raw "$base" "$dir/raw"
debugfs -w "$dir/raw" >/dev/null 2>"$dir/errors" <<COMMANDS
write $dir/unit /etc/systemd/system/activate.service
write $dir/activate /etc/activate
cd /etc/systemd/system/multi-user.target.wants
symlink activate.service /etc/systemd/system/activate.service
COMMANDS
qemu-img convert -O qcow2 "$dir/raw" "$disk"

#!/bin/sh
# guest.sh BASE DISK: a disk whose system does at boot what a NixOS does in its stage 2, as far as the tests look at it:
# it has the store, and runs the activation script of the system that the kernel's command line names.
set -e
base=$1 disk=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/unit" <<'UNIT'
[Unit]
Description=Activation of the system in the store
DefaultDependencies=no
After=systemd-remount-fs.service
Before=ssh.service
[Service]
Type=oneshot
RemainAfterExit=yes
StandardOutput=journal+console
StandardError=journal+console
ExecStart=/bin/sh /etc/activate
[Install]
WantedBy=multi-user.target
UNIT
cat >"$dir/activate" <<'SCRIPT'
set -e
init=$(sed 's/.*init=\([^ ]*\).*/\1/' /proc/cmdline)
system=${init%/init}
store=${system%/*}
if mountpoint -q "$store"; then
    # Stage 1 knew nothing of civm, so nobody else configures a network.
    device=$(ls /sys/class/net | grep -v lo | head -n 1)
    ip link set "$device" up
    ip address add 10.0.2.15/24 dev "$device"
    ip route add default via 10.0.2.2
else
    mkdir -p "$store"
    for tag in nix-store store; do
        mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro "$tag" "$store" 2>/dev/null && break
    done
fi
sh "$system/activate"
systemctl start --no-block ssh.service
SCRIPT
qemu-img convert -O raw "$base" "$dir/raw"
debugfs -w "$dir/raw" >/dev/null 2>"$dir/errors" <<COMMANDS
write $dir/unit /etc/systemd/system/activate.service
write $dir/activate /etc/activate
rm /etc/fstab
cd /etc/systemd/system/multi-user.target.wants
symlink activate.service /etc/systemd/system/activate.service
COMMANDS
qemu-img convert -O qcow2 "$dir/raw" "$disk"

#!/bin/sh
# stage1.sh IMAGE BUSYBOX INITRD: an initrd that does what stage 1 of NixOS does for a machine: it loads drivers, mounts
# the root disk and the shares that the command line names, and goes on to the system on the disk.
set -e
image=$1 busybox=$2 initrd=$3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/root/bin" "$dir/root/modules" "$dir/root/mnt" "$dir/root/proc" "$dir/root/sys" "$dir/root/dev"
cp "$busybox" "$dir/root/bin/busybox"
modules=$(echo "$image"/modules/*)
# load MODULE: it and what it needs, in the order in which they can be loaded.
load() {
    needs=$(sed -n "s|^\(.*/\)\?$1\.ko: *||p" "$modules/modules.dep")
    for path in $(echo "$needs" | tr ' ' '\n' | sed '1!G;h;$!d') $(sed -n "s|^\(\(.*/\)\?$1\.ko\):.*|\1|p" "$modules/modules.dep"); do
        name=${path##*/}
        [ ! -e "$dir/root/modules/$name" ] || continue
        cp "$modules/$path" "$dir/root/modules/$name"
        echo "$name" >>"$dir/root/modules/order"
    done
}
for module in virtio_pci crc32c_generic virtio_blk ext4 virtio_net virtio-rng 9pnet_virtio 9p fuse virtiofs button evdev; do load "$module"; done
cat >"$dir/root/init" <<'INIT'
#!/bin/busybox sh
export PATH=/bin
# It finds itself through /proc.
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod "/modules/$module" || echo "stage 1: cannot load $module"; done
i=0
while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i + 1)); done
mount -t ext4 /dev/vda /mnt || echo "stage 1: no root"
for word in $(cat /proc/cmdline); do
    case $word in stage1.mount=*) ;; *) continue ;; esac
    rest=${word#*=} kind=${word#*=}
    kind=${kind%%:*} rest=${rest#*:}
    tag=${rest%%:*} target=${rest#*:}
    mkdir -p "/mnt$target"
    options=
    [ "$kind" != 9p ] || options="-o trans=virtio,version=9p2000.L,msize=262144,cache=loose"
    mount -t "$kind" $options "$tag" "/mnt$target" || echo "stage 1: cannot mount $tag by $kind"
done
umount /proc /sys
mount --move /dev /mnt/dev
exec switch_root /mnt /sbin/init
INIT
chmod 755 "$dir/root/init"
(cd "$dir/root" && find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$initrd"

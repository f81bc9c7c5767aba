# The script that runs a machine, as the years have had it: what civm tells it has to do in each of them.
{ lib, machine, toplevel, name, cfg, year }:
let
  inherit (lib) concatMapStrings concatStringsSep mapAttrsToList optionalString;
  years = {
    "20.09" = { strict = false; quoted = false; path = false; cpu = "-cpu max"; kernelVariable = false; bootindex = false; virtiofs = false; tags.nix-store = "store"; };
    "21.11" = y."20.09" // { strict = true; quoted = true; tags = { }; };
    "22.11" = y."21.11" // { path = true; kernelVariable = true; };
    "23.11" = y."22.11";
    "24.11" = y."22.11" // { cpu = "-machine accel=kvm:tcg -cpu max"; bootindex = true; };
    "25.11" = y."24.11";
    "26.11" = y."25.11" // { virtiofs = true; };
  };
  y = years;
  of = years.${year};

  quote = text: if of.quoted then "\"${text}\"" else text;
  tagOf = tag: of.tags.${tag} or tag;
  # Before virtiofs QEMU serves the directories itself; since then a daemon for each of them does, over memory that both have.
  virtfs = concatMapStrings (tag: let share = cfg.sharedDirectories.${tag}; in ''
    -virtfs local,path=${share.source},security_model=${share.securityModel},mount_tag=${tagOf tag} \
  '') (lib.attrNames cfg.sharedDirectories);
  # QEMU's own daemon, in C, or the one that came after it.
  source = share:
    if builtins.match ".*/qemu/.*" machine.virtiofsd != null then "-o source=${share.source} -o cache=none"
    else "--shared-dir ${share.source} --cache never --sandbox none";
  daemons = concatMapStrings (tag: let share = cfg.sharedDirectories.${tag}; in ''
    "${machine.virtiofsd}" --socket-path="$TMPDIR/${tag}.sock" ${source share} >/dev/null 2>"$TMPDIR/${tag}.log" &
    while [ ! -S "$TMPDIR/${tag}.sock" ]; do kill -0 $! || { cat "$TMPDIR/${tag}.log" >&2; exit 1; }; sleep 0.1; done
  '') (lib.attrNames cfg.sharedDirectories);
  vhost = ''
    -object memory-backend-memfd,id=mem,size=${toString cfg.memorySize}M,share=on -numa node,memdev=mem \
  '' + concatMapStrings (tag: ''
    -chardev socket,id=fs-${tag},path="$TMPDIR/${tag}.sock" -device vhost-user-fs-pci,chardev=fs-${tag},tag=${tag} \
  '') (lib.attrNames cfg.sharedDirectories);
  # What stage 1 mounts, in place of a list in an initrd of its own.
  mounts = concatStringsSep " " (mapAttrsToList (tag: share:
    "stage1.mount=${if of.virtiofs then "virtiofs" else "9p"}:${tagOf tag}:${share.target}") cfg.sharedDirectories);
  kernel = optionalString of.kernelVariable "\${NIXPKGS_QEMU_KERNEL_${builtins.replaceStrings [ "-" "." ] [ "_" "_" ] name}:-${machine.kernel}}";
in
''
  #! ${if of.quoted then machine.bash else "/bin/bash"}
'' + optionalString of.path ''
  export PATH=${machine.coreutils}''${PATH:+:}$PATH
'' + optionalString of.strict ''
  set -e
'' + ''
  NIX_DISK_IMAGE=$(readlink -f ${quote "\${NIX_DISK_IMAGE:-${if cfg.diskImage == null then "" else cfg.diskImage}}"}) || test -z "$NIX_DISK_IMAGE"

  if test -n "$NIX_DISK_IMAGE" && ! test -e "$NIX_DISK_IMAGE"; then
      echo "Disk image do not exist, creating the virtualisation disk image..."
      ${machine.qemu_img} create -q -f qcow2 -b ${machine.disk} -F qcow2 "$NIX_DISK_IMAGE" ${toString cfg.diskSize}M
      echo "Virtualisation disk image created."
  fi

  # Create a directory for storing temporary data of the running VM.
  if [ -z "$TMPDIR" ] || [ -z "$USE_TMPDIR" ]; then
      TMPDIR=$(mktemp -d nix-vm.XXXXXXXXXX --tmpdir)
  fi

  mkdir -p ${quote "$TMPDIR/xchg"}
  cd ${quote "$TMPDIR"}
'' + optionalString of.virtiofs daemons + ''
  exec ${machine.qemu} ${of.cpu} \
    -name ${name} \
    -m ${toString cfg.memorySize} \
    -smp ${toString cfg.cores} \
    -device virtio-rng-pci \
    ${concatStringsSep " " cfg.qemu.networkingOptions} \
'' + (if of.virtiofs then vhost else virtfs) + ''
    -drive cache=writeback,file="$NIX_DISK_IMAGE",id=drive1,if=none,index=1,werror=report -device virtio-blk-pci,${optionalString of.bootindex "bootindex=1,"}drive=drive1,serial=root \
    -device virtio-keyboard \
    -usb \
    -device usb-tablet,bus=usb-bus.0 \
    -kernel ${if of.kernelVariable then kernel else machine.kernel} \
    -initrd ${machine.initrd} \
    -append "${machine.append} ${mounts} init=${toplevel}/init console=tty0 console=ttyS0,115200n8 $QEMU_KERNEL_PARAMS" \
    ${optionalString (!cfg.graphics) "-nographic"} ${concatStringsSep " " cfg.qemu.options} \
    $QEMU_OPTS \
    "$@"
''

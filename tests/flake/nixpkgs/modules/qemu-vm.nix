# What a machine has, and the script that runs it.
{ lib, config, pkgs, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.virtualisation;
  year = config.system.nixos.release;
  machine = builtins.fromJSON (builtins.readFile ../machine.json);
  share = target: source: { inherit source target; securityModel = "none"; };
in
{
  options.virtualisation = {
    memorySize = mkOption { type = types.int; default = 1024; };
    cores = mkOption { type = types.int; default = 1; };
    diskSize = mkOption { type = types.int; default = 1024; };
    diskImage = mkOption { type = types.nullOr types.str; default = "./${config.system.name}.qcow2"; };
    graphics = mkOption { type = types.bool; default = true; };
    qemu.options = mkOption { type = types.listOf types.str; default = [ ]; };
    qemu.networkingOptions = mkOption { type = types.listOf types.str; };
    sharedDirectories = mkOption {
      default = { };
      type = types.attrsOf (types.submodule {
        options.source = mkOption { type = types.str; };
        options.target = mkOption { type = types.str; };
        options.securityModel = mkOption { type = types.str; default = "mapped-xattr"; };
      });
    };
    forwardPorts = mkOption {
      default = [ ];
      type = types.listOf (types.submodule {
        options.from = mkOption { type = types.str; default = "host"; };
        options.proto = mkOption { type = types.str; default = "tcp"; };
        options.host.address = mkOption { type = types.str; default = ""; };
        options.host.port = mkOption { type = types.port; };
        options.guest.address = mkOption { type = types.str; default = ""; };
        options.guest.port = mkOption { type = types.port; };
      });
    };
  };

  config = {
    virtualisation.qemu.networkingOptions =
      let
        one = port: "hostfwd=${port.proto}:${port.host.address}:${toString port.host.port}-${port.guest.address}:${toString port.guest.port}";
        forwards = map one cfg.forwardPorts;
        more = "\${QEMU_NET_OPTS:+,$QEMU_NET_OPTS}";
        trailing = lib.concatMapStrings (forward: forward + ",") forwards;
      in
      lib.mkDefault (
        if year == "20.09" then
          [ "-device virtio-net-pci,netdev=user.0 -netdev user,id=user.0${lib.concatMapStrings (forward: "," + forward) forwards}${more}" ]
        # Here QEMU reads the two commas as one of the value before them.
        else if year == "21.11" then [ "-net nic,netdev=user.0,model=virtio" "-netdev user,id=user.0,${trailing}${more}" ]
        else [ "-net nic,netdev=user.0,model=virtio" "-netdev user,id=user.0,${trailing}\"$QEMU_NET_OPTS\"" ]);
    virtualisation.sharedDirectories = {
      nix-store = share builtins.storeDir builtins.storeDir;
      xchg = share "/tmp/xchg" ''"$TMPDIR"/xchg'';
      shared = share "/tmp/shared" ''"''${SHARED_DIR:-$TMPDIR/xchg}"'';
    };
    # What stage 2 does before it starts anything: the files that options stand for.
    system.activationScripts.a-etc = ''
      mkdir -p -m 0700 /root/.ssh
      cp "''${0%/*}/authorized_keys" /root/.ssh/authorized_keys
      chmod 0600 /root/.ssh/authorized_keys
      cp "''${0%/*}/sshd_config" /etc/ssh/sshd_config.d/nixos.conf
    '';
    system.build.vm =
      let name = "run-${config.system.name}-vm"; in
      pkgs.runCommand "nixos-vm" {
        toplevel = config.system.build.toplevel;
        script = import ../runner.nix {
          inherit lib;
          machine = machine // { initrd = machine.initrds.${config.system.stage1}; };
          inherit (config.system.build) toplevel;
          inherit (config.system) name;
          inherit cfg year;
        };
        passAsFile = [ "script" ];
      } ''
        mkdir -p $out/bin
        ln -s "$toplevel" $out/system
        cp "$scriptPath" $out/bin/${name}
        chmod 755 $out/bin/${name}
      '' // { meta.mainProgram = name; };
  };
}

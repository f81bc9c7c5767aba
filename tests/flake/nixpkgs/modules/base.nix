# The options of every NixOS that the tests' configurations use.
{ packages, system, machine }:
{ lib, config, options, extendModules, ... }:
let
  inherit (lib) mkOption types;
  # A text, or a text with the names of those that come before it.
  script.merge = path: all:
    let each = map (one: if builtins.isString one then { text = one; } else one) all; in {
      text = lib.concatMapStrings (one: one.text or "") each;
      deps = lib.concatMap (one: one.deps or [ ]) each;
    };
in
{
  options = {
    _module.args = mkOption { type = types.attrsOf types.anything; default = { }; };
    nixpkgs.overlays = mkOption { type = types.listOf types.anything; default = [ ]; };
    networking.hostName = mkOption { type = types.str; default = "nixos"; };
    system.name = mkOption { type = types.str; default = config.networking.hostName; };
    system.build = mkOption { type = types.attrsOf types.anything; default = { }; };
    system.activationScripts = mkOption { type = types.attrsOf script; default = { }; };
    system.nixos.release = mkOption { type = types.str; default = "25.11"; };
    # Which initrd boots it: civm's, whose guest has an agent, or one that knows nothing of civm.
    system.stage1 = mkOption { type = types.enum [ "civm" "plain" ]; default = "plain"; };
    system.stateVersion = mkOption { type = types.str; default = "25.11"; };
    environment.etc = mkOption { type = types.attrsOf types.anything; default = { }; };
    environment.systemPackages = mkOption { type = types.listOf types.package; default = [ ]; };
    boot.kernelParams = mkOption { type = types.listOf types.str; default = [ ]; };
    systemd.services = mkOption { type = types.attrsOf types.anything; default = { }; };
    users.users = mkOption {
      default = { };
      type = types.attrsOf (types.submodule {
        options.openssh.authorizedKeys.keys = mkOption { type = types.listOf types.str; default = [ ]; };
        options.isNormalUser = mkOption { type = types.bool; default = false; };
      });
    };
    services.openssh = {
      enable = mkOption { type = types.bool; default = false; };
      settings = mkOption { type = types.attrsOf types.anything; default = { }; };
      hostKeys = mkOption {
        type = types.listOf (types.submodule {
          options.path = mkOption { type = types.str; };
          options.type = mkOption { type = types.str; };
          options.bits = mkOption { type = types.nullOr types.int; default = null; };
        });
        default = [
          { type = "rsa"; bits = 4096; path = "/etc/ssh/ssh_host_rsa_key"; }
          { type = "ed25519"; path = "/etc/ssh/ssh_host_ed25519_key"; }
        ];
      };
    };
    # Every configuration has a variant that `nixos-rebuild build-vm` builds.
    virtualisation.vmVariant = mkOption {
      type = types.anything;
      default = (extendModules { modules = [ ./qemu-vm.nix ]; }).config;
    };
  };

  config = {
    _module.args.pkgs = packages system config.nixpkgs.overlays;
    system.build = lib.mkMerge [
      {
        toplevel = config._module.args.pkgs.runCommand "nixos-system-${config.system.name}" {
          closure = builtins.toJSON {
            inherit (config.networking) hostName;
            keys = config.users.users.root.openssh.authorizedKeys.keys or [ ];
            hostKeys = config.services.openssh.hostKeys;
            manifest = config.system.build.sopsManifest or null;
            install = "${config.sops.package or ""}";
            services = builtins.attrNames config.systemd.services;
            activation = builtins.mapAttrs (_: script: script.deps) config.system.activationScripts;
          };
          activation = lib.concatMapStringsSep "\n" (script: script.text) (builtins.attrValues config.system.activationScripts);
          keys = lib.concatMapStringsSep "\n" (key: key) (config.users.users.root.openssh.authorizedKeys.keys or [ ]);
          hostKeys = lib.concatMapStringsSep "\n" (key: "HostKey ${key.path}") config.services.openssh.hostKeys;
          passAsFile = [ "closure" "activation" ];
        } ''
          mkdir $out
          cp "$closurePath" $out/closure.json
          { echo '#!/bin/sh'; cat "$activationPath"; } >$out/activate
          chmod 755 $out/activate
          echo "$keys" >$out/authorized_keys
          echo "$hostKeys" >$out/sshd_config
        '';
      }
      (lib.mkIf (!(options.virtualisation ? sharedDirectories)) { vm = config.virtualisation.vmVariant.system.build.vm; })
    ];
  };
}

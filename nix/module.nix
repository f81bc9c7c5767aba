# A NixOS that civm starts as a machine: its share, its host key, and a word to the host when it is up.
{ lib, config, pkgs, options, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.civm;
  key = "/run/civm/ssh_host_ed25519_key";
  # The port on which civm hears of the guest.
  port = "/dev/virtio-ports/civm.agent";
  named = import ./names.nix { inherit pkgs; civm = cfg.package; };
  isMachine = options ? virtualisation && options.virtualisation ? sharedDirectories;
in
{
  options.civm = {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether this system is made to be a machine of civm's.";
    };
    package = mkOption {
      type = types.package;
      description = "civm, which installs the secrets as sops-nix's tool would.";
    };
    hostKey = mkOption {
      type = types.str;
      default = "/shared/secrets/ssh_host_ed25519_key";
      description = "Where civm puts the ssh host key, in the share `shr`.";
    };
    clientKeys = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Further keys that log in as root; civm's own is added by `civm up`.";
    };
  };

  config = lib.mkMerge [
    (lib.mkIf cfg.enable {
      services.openssh.enable = true;
      services.openssh.hostKeys = lib.mkForce [ { path = key; type = "ed25519"; } ];
      users.users.root.openssh.authorizedKeys.keys = cfg.clientKeys;
      # A copy in memory of the guest's own, from which on civm's is not needed any more. sops-nix opens the secrets with
      # it, so it comes first.
      system.activationScripts.civmHostKey = ''
        if [ -r ${cfg.hostKey} ] && [ ! -e ${key} ]; then
          mkdir -p -m 0700 /run/civm
          mount -t ramfs -o mode=0700 ramfs /run/civm
          install -m 0400 ${cfg.hostKey} ${key}
          [ ! -w ${port} ] || echo '{"event":"key-taken"}' >${port}
        fi
      '';
      systemd.services.civm-ready = {
        description = "Tells civm on the host that this machine is up";
        wantedBy = [ "multi-user.target" ];
        after = [ "sshd.service" "sops-install-secrets.service" ];
        unitConfig.ConditionPathExists = port;
        serviceConfig.Type = "oneshot";
        script = ''
          read -r seconds _ </proc/uptime
          echo "{\"event\":\"ready\",\"uptime_ms\":''${seconds%.*}000}" >${port}
        '';
      };
    })
    (if !isMachine then { } else {
      virtualisation.sharedDirectories.shr = {
        # What civm puts there is read through a variable; a machine that somebody else starts has a directory of its own.
        source = ''"''${CIVM_SHARE:-$TMPDIR/xchg}"'';
        target = "/shared";
      };
    })
    (if !(options ? sops) then { } else {
      sops.package = lib.mkDefault named.sops-install-secrets;
      sops.validationPackage = lib.mkDefault named.sops-install-secrets;
      system.activationScripts.setupSecrets.deps = [ "civmHostKey" ];
    })
  ];
}

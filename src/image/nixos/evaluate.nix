# What civm has to know of a configuration, and the derivation of its machine's runner.
#
# The configuration is the user's own, with one module on top, and only inside the machine: a share that civm fills, no
# ports of its own (they are given to the runner, on loopback), and the key with which civm logs in.
{ url, configuration, clientKey, diskSize }:
let
  inherit (builtins) attrNames elem filter head stringLength substring;

  flake = builtins.getFlake url;
  all = flake.nixosConfigurations or (throw "the flake has no nixosConfigurations");
  original = all.${configuration}
    or (throw "the flake has no configuration `${configuration}`; it has: ${toString (attrNames all)}");

  # qemu-vm.nix declares it: in the configuration itself where that imports it, else in the variant that every
  # configuration has for `nixos-rebuild build-vm`.
  isMachine = options: options ? virtualisation && options.virtualisation ? sharedDirectories;
  machineOf = system:
    if isMachine system.options then system.config else system.config.virtualisation.vmVariant;
  mine = machineOf original;
  release = mine.system.nixos.release or "";

  isBelow = directory: path: substring 0 (stringLength directory + 1) path == directory + "/";
  below = directory: path: substring (stringLength directory + 1) (stringLength path) path;

  # Where the guest looks for its host key, and the share that it lies in.
  hostKeys = filter (key: key.type == "ed25519") (mine.services.openssh.hostKeys or [ ]);
  key = mine.civm.hostKey or (if hostKeys == [ ] then null else (head hostKeys).path);
  shares = mine.virtualisation.sharedDirectories;
  tags = if key == null then [ ] else filter (tag: isBelow shares.${tag}.target key) (attrNames shares);
  own = { tag = "civm"; target = "/shared"; key = "secrets/ssh_host_ed25519_key"; added = true; };
  share =
    if tags == [ ] then own
    else rec { tag = head tags; inherit (shares.${tag}) target; key = below target hostKey; added = false; };
  hostKey = key;

  addition = { lib, options, ... }: {
    config = if !isMachine options then { } else {
      virtualisation.sharedDirectories.${share.tag} = {
        source = lib.mkForce ''"$CIVM_SHARE"'';
      } // (if share.added then { inherit (share) target; } else { });
      virtualisation.forwardPorts = lib.mkForce [ ];
      # Their QEMU_NET_OPTS came after two commas, which QEMU reads as one of the value before them.
      virtualisation.qemu = if !elem release [ "21.05" "21.11" "22.05" ] then { } else {
        networkingOptions = lib.mkForce [
          "-net nic,netdev=user.0,model=virtio"
          "-netdev user,id=user.0\${QEMU_NET_OPTS:+,$QEMU_NET_OPTS}"
        ];
      };
      virtualisation.diskSize = if diskSize == null then lib.mkDefault mine.virtualisation.diskSize else lib.mkForce diskSize;
      users.users.root.openssh.authorizedKeys.keys = [ clientKey ];
      services.openssh = { enable = true; } // (if !share.added then { } else {
        hostKeys = lib.mkForce [ { path = "${share.target}/${share.key}"; type = "ed25519"; } ];
      });
    };
  };
  extended =
    if original ? extendModules then original.extendModules { modules = [ addition ]; }
    else throw "`${configuration}` has no extendModules: nixpkgs has it since 21.11";
  vm = extended.config.system.build.vm;

  ports = filter (port: (port.from or "host") == "host") (mine.virtualisation.forwardPorts or [ ]);
  # The encrypted file that has the host key: sops-nix's own, or that of the first secret.
  secrets = builtins.attrValues (mine.sops.secrets or { });
  default = mine.sops.defaultSopsFile or null;
  sopsFile = if default != null then default else if secrets == [ ] then null else (head secrets).sopsFile;
  source = toString (flake.sourceInfo or flake).outPath;
  sopsPath = toString sopsFile;
in
{
  drv = builtins.unsafeDiscardStringContext vm.drvPath;
  out = builtins.unsafeDiscardStringContext vm.outPath;
  program = vm.meta.mainProgram or null;
  system = vm.system;
  cpus = mine.virtualisation.cores;
  memory_mib = mine.virtualisation.memorySize;
  disk_mib = mine.virtualisation.diskSize;
  has_disk = (mine.virtualisation.diskImage or "") != null;
  forwards = map (port: {
    protocol = port.proto or "tcp";
    address = port.host.address or "";
    host = port.host.port;
    guest = port.guest.port;
  }) ports;
  share = { inherit (share) tag key added; };
  sops = if sopsFile == null then null else {
    path = if isBelow source sopsPath then below source sopsPath else sopsPath;
    text = builtins.readFile sopsFile;
  };
}

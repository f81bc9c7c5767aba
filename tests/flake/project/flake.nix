{
  description = "A project of NixOS users: machines that are configurations, of which three have one host name";

  outputs = { self }:
    let
      nixpkgs = (import ./nixpkgs/flake.nix).outputs { self = nixpkgs; };
      civm = import ./civm.nix nixpkgs;
      configuration = modules: nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [ nixpkgs.nixosModules.qemu-vm ./hosts/common.nix { nixpkgs.overlays = [ civm.overlays.default ]; } ] ++ modules;
      };
      port = host: guest: { host.port = host; guest.port = guest; };
      builder = { name, cores ? 1, memory ? 512 }: configuration [
        {
          networking.hostName = "builder";
          virtualisation.cores = cores;
          virtualisation.memorySize = memory;
          virtualisation.diskSize = 16 * 1024;
          virtualisation.forwardPorts = [ (port 2322 22) ];
        }
      ];
      controller = name: more: configuration ([
        nixpkgs.nixosModules.sops
        ./hosts/jenkins-controller/configuration.nix
        {
          networking.hostName = "jenkins-controller";
          virtualisation.memorySize = 768;
          virtualisation.diskSize = 20 * 1024;
          virtualisation.forwardPorts = [ (port 8081 8081) (port 2222 22) ];
          # The place of the seed: a directory of the user's, as the shell finds it.
          virtualisation.sharedDirectories.shr = {
            source = "$HOME/.config/vmshared/${name}";
            target = "/shared";
          };
          services.openssh.hostKeys = [{ path = "/shared/secrets/ssh_host_ed25519_key"; type = "ed25519"; }];
        }
      ] ++ more);
    in
    {
      # One of each year whose runners are different.
      nixosConfigurations = builtins.listToAttrs (map (release: {
        name = "year-${builtins.replaceStrings [ "." ] [ "-" ] release}";
        value = configuration [ { networking.hostName = "builder"; system.nixos = { inherit release; }; system.stage1 = "civm"; virtualisation.forwardPorts = [ (port 2322 22) ]; } ];
      }) [ "20.09" "21.11" "22.11" "23.11" "24.11" "25.11" "26.11" ]) // {
        vm-builder-demo = builder { name = "vm-builder-demo"; cores = 2; memory = 640; };
        vm-builder-x86 = builder { name = "vm-builder-x86"; };
        vm-builder-aarch = builder { name = "vm-builder-aarch"; };
        vm-jenkins-controller = controller "jenkins-controller" [ ];
        # The same over the shares that nixpkgs has since 2026-09.
        vm-virtiofs = controller "virtiofs" [ { system.nixos.release = "26.11"; } ];
        # With civm's module, which brings the share, the key's place and the tool; nothing else is needed.
        vm-module = configuration [
          nixpkgs.nixosModules.sops
          civm.nixosModules.default
          ./hosts/jenkins-controller/configuration.nix
          { networking.hostName = "module"; virtualisation.memorySize = 768; virtualisation.diskSize = 16 * 1024; virtualisation.forwardPorts = [ (port 2222 22) ]; }
        ];
        # A guest with civm's own side, and its module.
        vm-agent = controller "agent" [ { system.stage1 = "civm"; } ];
        vm-jenkins-controller-ephemeral = controller "jenkins-controller-ephemeral" [ ];
      };
    };
}

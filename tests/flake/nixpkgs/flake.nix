{
  description = "As much of nixpkgs as civm's tests need, in words of their own";

  outputs = { self }:
    let
      lib = import ./lib.nix;
      systems = [ "x86_64-linux" "aarch64-linux" ];
      # What of the machine under the tests stands in for what would be built.
      machine = builtins.fromJSON (builtins.readFile ./machine.json);
      packages = system: overlays:
        lib.fix (final: lib.foldl' (prev: overlay: prev // overlay final prev) (import ./packages.nix { inherit lib system machine; } final) overlays);
    in
    {
      lib = lib // {
        nixosSystem = { system, modules ? [ ], specialArgs ? { } }:
          lib.evalModules {
            modules = [ (import ./modules/base.nix { inherit packages system machine; }) ] ++ modules;
            inherit specialArgs;
          };
      };
      legacyPackages = lib.genAttrs systems (system: packages system [ ]);
      nixosModules.qemu-vm = ./modules/qemu-vm.nix;
      # What is called sops-nix elsewhere.
      nixosModules.sops = ./modules/sops.nix;
    };
}

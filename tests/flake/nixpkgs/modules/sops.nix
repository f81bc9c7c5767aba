# The part of sops-nix that decides what its tool is asked.
{ lib, config, pkgs, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.sops;
  keys = lib.filter (key: key.type == "ed25519") config.services.openssh.hostKeys;
  secret = name: one: {
    inherit name;
    inherit (one) mode owner;
    key = if one.key == "" then name else one.key;
    group = one.owner;
    path = "/run/secrets/${name}";
    sopsFile = "${one.sopsFile}";
    format = "yaml";
    restartUnits = [ ];
    reloadUnits = [ ];
  };
  manifest = pkgs.runCommand "manifest.json" {
    content = builtins.toJSON {
      secrets = lib.mapAttrsToList secret cfg.secrets;
      secretsMountPoint = "/run/secrets.d";
      symlinkPath = "/run/secrets";
      keepGenerations = 1;
      gnupgHome = null;
      sshKeyPaths = [ ];
      ageKeyFile = null;
      ageSshKeyPaths = cfg.age.sshKeyPaths;
      useTmpfs = false;
      templates = [ ];
      placeholderBySecretName = { };
      userMode = false;
      logging = { keyImport = true; secretChanges = true; };
    };
    passAsFile = [ "content" ];
  } ''
    "${cfg.validationPackage}/bin/sops-install-secrets" -check-mode=sopsfile "$contentPath"
    cp "$contentPath" $out
  '';
in
{
  options.sops = {
    package = mkOption { type = types.package; default = pkgs.sops-install-secrets; };
    validationPackage = mkOption { type = types.package; default = cfg.package; };
    defaultSopsFile = mkOption { type = types.path; default = null; };
    age.sshKeyPaths = mkOption { type = types.listOf types.str; default = map (key: key.path) keys; };
    secrets = mkOption {
      default = { };
      type = types.attrsOf (types.submodule ({ config, ... }: {
        options.sopsFile = mkOption { type = types.path; default = cfg.defaultSopsFile; };
        options.key = mkOption { type = types.str; default = ""; };
        options.owner = mkOption { type = types.str; default = "root"; };
        options.mode = mkOption { type = types.str; default = "0400"; };
      }));
    };
  };
  config = {
    system.build.sopsManifest = "${manifest}";
    system.activationScripts.setupSecrets = { deps = [ "specialfs" ]; text = "${cfg.package}/bin/sops-install-secrets ${manifest}\n"; };
  };
}

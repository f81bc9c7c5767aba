# civm under the names of the tools that it stands in for, and the project's command for all encrypted files at once.
{ pkgs, civm }:
let
  named = name: pkgs.runCommand name { meta.mainProgram = name; } ''
    mkdir -p $out/bin
    ln -s ${civm}/bin/civm $out/bin/${name}
  '';
in
{
  sops = named "sops";
  ssh-to-age = named "ssh-to-age";
  sops-install-secrets = named "sops-install-secrets";
  update-sops-files = pkgs.writeShellScriptBin "update-sops-files" ''exec ${civm}/bin/civm secrets update-all "$@"'';
}

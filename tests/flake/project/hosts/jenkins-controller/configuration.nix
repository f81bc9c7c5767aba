{ ... }: {
  sops.defaultSopsFile = ./secrets.yaml;
  sops.secrets.jenkins_admin_password = { };
  sops.secrets.vm_builder_ssh_key.mode = "0440";
}

{ ... }: {
  virtualisation.graphics = false;
  # As the seed has it: nothing falls back where KVM does not work, unless something later on the line wins.
  virtualisation.qemu.options = [ "-device virtio-balloon" "-enable-kvm" ];
  services.openssh.enable = true;
}

use Socket qw(inet_pton AF_INET AF_INET6);
my ($port, @to) = @ARGV;
sub sum { my $d = shift; $d .= "\0" if length($d) % 2; my $s = 0; $s += $_ for unpack("n*", $d); $s = ($s >> 16) + ($s & 65535) while $s >> 16; (~$s & 65535) || 65535 }
open(I, "/sys/class/net/eth0/ifindex"); my $index = <I> + 0;
socket(S, 17, 3, 0) or die "socket: $!";
# A source of its own for each: QEMU has one socket for a source.
my $from = 4242;
for my $to (@to) {
    $from++;
    my $udp = pack("nnnn", $from, $port, 8 + length $to, 0) . $to;
    my ($type, $packet);
    if ($to =~ /:/) {
        my $ends = inet_pton(AF_INET6, "fec0::15") . inet_pton(AF_INET6, $to);
        substr($udp, 6, 2) = pack("n", sum($ends . pack("NN", length $udp, 17) . $udp));
        ($type, $packet) = (0x86dd, pack("NnCC", 0x60000000, length $udp, 17, 64) . $ends . $udp);
    } else {
        my $header = pack("CCnnnCCn", 0x45, 0, 20 + length $udp, 1, 0, 64, 17, 0) . inet_pton(AF_INET, "10.0.2.15") . inet_pton(AF_INET, $to);
        substr($header, 10, 2) = pack("n", sum($header));
        ($type, $packet) = (0x0800, $header . $udp);
    }
    my $frame = pack("H12H12n", "52550a000202", "525400123456", $type) . $packet;
    send(S, $frame, 0, pack("SniSCCa8", 17, $type, $index, 1, 0, 6, pack("H12", "52550a000202"))) or warn "$to: $!";
}

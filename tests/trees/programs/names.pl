# Say which address a datagram would leave from, by each of the stacks.
# Usage: names.pl STACK...
use strict;
use Socket;

my @own;
for my $stack (@ARGV) {
    my $fd = syscall(30061, $stack, AF_INET, SOCK_DGRAM, 0);
    die "msocket: $!" if $fd < 0;
    open(my $socket, "+<&=", $fd) or die "open: $!";
    connect($socket, pack_sockaddr_in(53, inet_aton("192.0.2.1"))) or die "connect: $!";
    my (undef, $address) = unpack_sockaddr_in(getsockname($socket));
    push @own, inet_ntoa($address);
}
print "@own\n";

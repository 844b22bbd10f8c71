# prefork.pl PORT: four processes that accept from one listener, which they inherited.
use strict;
use warnings;
use Socket qw(:all);

socket(my $listener, AF_INET6, SOCK_STREAM, 0) or die "socket: $!";
setsockopt($listener, SOL_SOCKET, SO_REUSEADDR, 1) or die "SO_REUSEADDR: $!";
bind($listener, pack_sockaddr_in6($ARGV[0], IN6ADDR_ANY)) or die "bind: $!";
listen($listener, 1024) or die "listen: $!";
for (1 .. 4) {
    next if fork;
    while (accept(my $client, $listener)) {
        my $request = '';
        while ($request !~ /\r\n\r\n$/) {
            sysread($client, $request, 4096, length $request) or last;
        }
        my $body = sprintf "hello from %08d\n", $$;
        syswrite $client, "HTTP/1.0 200 OK\r\nContent-Length: "
            . length($body) . "\r\n\r\n$body";
        close $client;
    }
    exit;
}
$| = 1;
print "ready\n";
1 while wait != -1;

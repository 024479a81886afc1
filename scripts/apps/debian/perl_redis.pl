#!/usr/bin/env perl
# Perl's Redis.pm: values, expiry, a pipeline, a transaction, messages. Started by scripts/apps.py.
use strict;
use warnings;
use Redis;

my $server = "127.0.0.1:$ARGV[0]";
my $redis = Redis->new(server => $server);

sub ensure { my ($holds, $what) = @_; $holds or die "failed: $what\n"; }

ensure($redis->set(name => 'hello big world', 'EX', 100) eq 'OK', 'SET');
ensure($redis->get('name') eq 'hello big world', 'GET');
ensure(!defined $redis->get('nothing'), 'a missing key');
ensure($redis->ttl('name') <= 100, 'TTL');
$redis->mset(a => 1, b => 2);
ensure(join(',', map { $_ // 'none' } $redis->mget('a', 'c', 'b')) eq '1,none,2', 'MGET');
ensure(join(',', sort $redis->keys('[ab]')) eq 'a,b', 'KEYS');

my @numbers;
$redis->incr('visits', sub { push @numbers, $_[0] }) for 1 .. 1000;
$redis->wait_all_responses;
ensure("@numbers" eq "@{[1 .. 1000]}", 'a pipeline');

$redis->multi;
$redis->incr('visits');
$redis->get('visits');
ensure(join(',', $redis->exec) eq '1001,1001', 'MULTI');

my $subscriber = Redis->new(server => $server);
my $heard = '';
$subscriber->subscribe('news', sub { $heard = $_[0] });
ensure($redis->publish('news', 'good') == 1, 'PUBLISH');
$subscriber->wait_for_messages(20) until $heard;
ensure($heard eq 'good', 'a message');

ensure(!eval { $redis->incr('name'); 1 } && $@ =~ /value is not an integer/, "the error's text");
ensure($redis->info->{role} eq 'master', 'INFO');
print "Perl Redis.pm $Redis::VERSION: values, expiry, pipeline, MULTI, messages, INFO\n";

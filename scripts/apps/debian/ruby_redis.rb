# ruby-redis: values, expiry, WATCH, a pipeline, messages. Started by scripts/apps.py.
require "redis"

def ensure_that(holds, what)
  abort "failed: #{what}" unless holds
end

port = Integer(ARGV[0])
redis = Redis.new(host: "127.0.0.1", port: port)
ensure_that redis.set("name", "hello big world", ex: 100) == "OK", "SET"
ensure_that redis.get("name") == "hello big world" && redis.get("nothing").nil?, "GET"
ensure_that redis.ttl("name").between?(1, 100), "TTL"
ensure_that redis.set("name", "other", nx: true) == false, "SET NX"
redis.mapped_mset("a" => 1, "b" => 2)
ensure_that redis.mapped_mget("a", "b", "c") == { "a" => "1", "b" => "2", "c" => nil }, "MGET"
ensure_that redis.pipelined { |pipe| 3.times { pipe.incr("visits") } } == [1, 2, 3], "a pipeline"
ensure_that redis.scan_each(match: "[ab]").sort == %w[a b], "SCAN"

# Another client changes the watched key, so the transaction does nothing.
outcome = redis.watch("visits") do
  Redis.new(host: "127.0.0.1", port: port).incr("visits")
  redis.multi { |transaction| transaction.set("visits", 0) }
end
ensure_that outcome.nil? && redis.get("visits") == "4", "WATCH"

heard = nil
redis.subscribe("news") do |on|
  on.subscribe { Redis.new(host: "127.0.0.1", port: port).publish("news", "good") }
  on.message do |_channel, text|
    heard = text
    redis.unsubscribe
  end
end
ensure_that heard == "good", "a message"

begin
  redis.incr("name")
rescue Redis::CommandError => e
  ensure_that e.message.include?("value is not an integer"), "the error's text"
else
  abort "failed: no error"
end
puts "ruby-redis #{Redis::VERSION}: values, expiry, WATCH and MULTI, pipeline, SCAN, messages"

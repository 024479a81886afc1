//! Commands of Redis 7 that this server leaves out on purpose, with the reason or the replacement.

/// Groups of names, each with its reason.
pub(super) const ABSENT: &[(&str, &str)] = &[
    (
        "blmove blmpop blpop brpop brpoplpush lindex linsert llen lmove lmpop lpop lpos lpush lpushx lrange \
         lrem lset ltrim rpop rpoplpush rpush rpushx sort sort_ro",
        "there are no lists; every value is a string",
    ),
    (
        "hdel hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hrandfield hscan hset hsetnx \
         hstrlen hvals",
        "there are no hashes; a key for each field does it, as in user:1:name",
    ),
    (
        "sadd scard sdiff sdiffstore sinter sintercard sinterstore sismember smembers smismember smove spop \
         srandmember srem sscan sunion sunionstore",
        "there are no sets; every value is a string",
    ),
    (
        "bzmpop bzpopmax bzpopmin zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore \
         zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore \
         zrank zrem zremrangebylex zremrangebyrank zremrangebyscore zrevrange zrevrangebylex \
         zrevrangebyscore zrevrank zscan zscore zunion zunionstore",
        "there are no sorted sets; every value is a string",
    ),
    (
        "xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup xrevrange xsetid \
         xtrim",
        "there are no streams; PUBLISH sends messages, and the log keeps every write",
    ),
    (
        "geoadd geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro \
         geosearch geosearchstore",
        "there are no geographic sets; every value is a string",
    ),
    (
        "pfadd pfcount pfdebug pfmerge pfselftest",
        "there is no HyperLogLog; SETBIT marks and BITCOUNT counts",
    ),
    (
        "eval eval_ro evalsha evalsha_ro fcall fcall_ro function script",
        "there are no scripts; MULTI with WATCH, SET IFEQ and DELEX IFEQ change data on a condition",
    ),
    ("acl", "there is one user; requirepass sets its password"),
    ("module", "there are no modules"),
    (
        "asking cluster readonly readwrite restore-asking",
        "there is no cluster of shards; every node holds all keys",
    ),
    (
        "migrate",
        "DUMP here and RESTORE there move a key, kvstore export moves all of them; MIGRATE from a Redis to here works",
    ),
    ("move swapdb", "there is one database, number 0"),
    (
        "spublish ssubscribe sunsubscribe",
        "there are no shards; PUBLISH and SUBSCRIBE reach every node",
    ),
    ("failover", "PROMOTE, sent to a follower, hands over to it"),
    (
        "psync replconf sync",
        "a follower of this server sends REPLICATE; for a backup, kvstore export DIR FILE",
    ),
];

#[cfg(test)]
mod tests {
    use crate::admin;

    #[test]
    fn what_is_there_is_not_called_absent() {
        let commands = admin::commands();
        for row in commands.rows() {
            assert_eq!(commands.why_absent(row.name.as_bytes()), None, "{}", row.name);
        }
        let reason = "there are no lists; every value is a string";
        assert_eq!(commands.why_absent(b"LPUSH"), Some(reason));
        assert_eq!(commands.why_absent(b""), None);
        assert_eq!(commands.why_absent(b"lpush rpush"), None);
    }
}

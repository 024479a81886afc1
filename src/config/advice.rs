//! Advice on settings that are accepted but make the server useless, or that contradict each other.
//!
//! Each of them is valid, and sometimes wanted, so none is refused. But an operator who gave it by mistake
//! would search long for the reason. So the log says it: at start for the settings given there, after a
//! CONFIG SET for the settings that it changed.

use super::limits::ClientClass;
use super::{Config, Fsync, Id};
use crate::cluster::members::{Ack, Reads};
use crate::pubsub::classes::Classes;

/// The shortest hard limit that everyday replies stay below: COMMAND's reply is about this long.
const OUTPUT_BYTES_MIN: u64 = 64 << 10;
/// Memory for the clients and the log of a server with next to no data, besides the process itself.
const ROOM_BYTES_MIN: usize = 1 << 20;
/// A follower hears ten times a second how new its data is.
const STALENESS_MS_MIN: i64 = 200;

/// A line for the log, and the settings that it is about.
pub type Advice = (&'static [Id], String);

impl Config {
    /// Advice for the operator on the present settings, when an empty server takes `empty_bytes` of
    /// memory and this one has `used_bytes` in use.
    pub fn advice(&self, empty_bytes: usize, used_bytes: usize) -> Vec<Advice> {
        let mut all = Vec::new();
        self.advise_on_memory(empty_bytes, used_bytes, &mut all);
        self.advise_on_output(&mut all);
        self.advise_on_the_cluster(&mut all);
        self.advise_on_the_rest(&mut all);
        all
    }

    fn advise_on_memory(&self, empty_bytes: usize, used_bytes: usize, all: &mut Vec<Advice>) {
        let limit = self.int(Id::Maxmemory) as usize;
        if limit == 0 {
            return;
        }
        let needed = empty_bytes + ROOM_BYTES_MIN;
        if limit < needed {
            let text = format!(
                "maxmemory {limit}: an empty server needs {needed} bytes, so writes will be refused \
                 with -OOM; give more, or 0 for no limit"
            );
            all.push((&[Id::Maxmemory], text));
        } else if used_bytes > limit {
            let text = format!(
                "maxmemory {limit} is less than the {used_bytes} bytes in use: keys will be evicted or, \
                 under noeviction, writes refused"
            );
            all.push((&[Id::Maxmemory], text));
        }
        let unread = self.output_limit(ClientClass::Normal).hard_bytes;
        if unread == 0 || unread > limit as u64 {
            let text = format!(
                "client-output-buffer-limit normal ({unread}, 0 is none) is above maxmemory ({limit}): \
                 one client that does not read its replies may take all of it, and keys are evicted or \
                 writes refused; lower the former"
            );
            all.push((&[Id::Maxmemory, Id::ClientOutputBufferLimit], text));
        }
    }

    fn advise_on_output(&self, all: &mut Vec<Advice>) {
        let classes = [ClientClass::Normal, ClientClass::Replica, ClientClass::PubSub];
        for (class, name) in classes.into_iter().zip(["normal", "replica", "pubsub"]) {
            let limit = self.output_limit(class);
            let (hard, soft) = (limit.hard_bytes, limit.soft_bytes);
            let problem = if (1..OUTPUT_BYTES_MIN).contains(&hard) {
                format!(
                    " {hard}: clients will be cut off for everyday replies; give 64kb at least, or 0 for \
                     no limit"
                )
            } else if hard > 0 && soft >= hard {
                format!(": the soft limit ({soft}) is never reached below the hard one ({hard})")
            } else {
                continue;
            };
            let text = format!("client-output-buffer-limit {name}{problem}");
            all.push((&[Id::ClientOutputBufferLimit], text));
        }
    }

    fn advise_on_the_cluster(&self, all: &mut Vec<Advice>) {
        let mut advise = |about: &'static [Id], text: &str| all.push((about, text.to_owned()));
        let Some(cluster) = self.cluster() else {
            if !self.text(Id::ClusterAnnounce).is_empty() {
                let text =
                    "cluster-announce without cluster-nodes: this node belongs to no cluster";
                advise(&[Id::ClusterAnnounce], text);
            }
            if self.int(Id::SentinelPort) != 0 {
                let text = "sentinel-port without cluster-nodes: no node of a cluster is to be found there";
                advise(&[Id::SentinelPort], text);
            }
            return;
        };
        if cluster.nodes.len() == 2 {
            let text = "cluster-nodes with two nodes: if one of them is down, none leads, since one is no \
                        majority of two; a third node makes the loss of one bearable";
            advise(&[Id::ClusterNodes], text);
        }
        if !cluster.nodes.contains(&cluster.own) {
            let text = "cluster-announce is not among cluster-nodes: this node copies the cluster's data, but \
                        does not vote";
            advise(&[Id::ClusterAnnounce, Id::ClusterNodes], text);
        }
        if (cluster.ack, cluster.reads) == (Ack::Majority, Reads::Local) {
            let text = "ack majority with reads local: no write is lost, but a leader that was replaced without \
                        noticing may answer reads with old data for a moment; reads index does not";
            advise(&[Id::Ack, Id::Reads], text);
        }
    }

    fn advise_on_the_rest(&self, all: &mut Vec<Advice>) {
        let mut advise_if = |applies: bool, about: &'static [Id], text: &str| {
            if applies {
                all.push((about, text.to_owned()));
            }
        };
        advise_if(
            self.int(Id::ClientQueryBufferLimit) < self.int(Id::ProtoMaxBulkLen),
            &[Id::ClientQueryBufferLimit, Id::ProtoMaxBulkLen],
            "client-query-buffer-limit is below proto-max-bulk-len: a client that sends a value as long \
             as the latter allows is cut off",
        );
        let classes = Classes::from_bits(self.int(Id::NotifyKeyspaceEvents));
        let ways = Classes::parse("KE").unwrap_or_default();
        let names_classes = classes.bits() & !ways.bits() != 0;
        advise_if(
            classes != Classes::NONE && (!classes.have_a_channel() || !names_classes),
            &[Id::NotifyKeyspaceEvents],
            "notify-keyspace-events publishes nothing: it takes K or E, and a class of events such as A",
        );
        advise_if(
            (1..STALENESS_MS_MIN).contains(&self.int(Id::ReplicaMaxStaleness)),
            &[Id::ReplicaMaxStaleness],
            "replica-max-staleness: a follower hears ten times a second how new its data is, so below \
             200 it will refuse reads with -STALE for no other reason",
        );
        let no_log = !self.flag(Id::Appendonly);
        advise_if(
            no_log && self.int(Id::MinReplicasToWrite) > 0,
            &[Id::MinReplicasToWrite],
            "min-replicas-to-write with appendonly no: without a log there are no followers, so every \
             write will be refused with -NOREPLICAS",
        );
        advise_if(
            no_log && self.fsync() == Fsync::Always,
            &[Id::Appendfsync],
            "appendfsync always with appendonly no: there is no log to sync, and nothing will be there \
             after a restart",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The advice on these settings, from a server that takes 3 MB when it is empty.
    fn advice(settings: &[(&str, &str)]) -> Vec<String> {
        let advice = Config::for_tests(settings).advice(3 << 20, 200 << 20);
        advice.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn defaults_and_sensible_settings_are_not_commented_on() {
        assert_eq!(advice(&[]), [""; 0]);
        let cache = [("maxmemory", "1gb"), ("maxmemory-policy", "allkeys-lru")];
        assert_eq!(advice(&cache), [""; 0]);
        assert_eq!(advice(&[("notify-keyspace-events", "KEA")]), [""; 0]);
        let nodes = ("cluster-nodes", "localhost:8080,b:1,c:1");
        assert_eq!(advice(&[nodes, ("ack", "majority"), ("reads", "index")]), [""; 0]);
        assert_eq!(advice(&[("client-output-buffer-limit", "normal 0 0 0")]), [""; 0]);
    }

    #[test]
    fn what_makes_a_server_useless_is_said() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[("maxmemory", "1mb")], "an empty server needs 4194304 bytes"),
            (&[("maxmemory", "100mb")], "may take all of it"),
            (&[("maxmemory", "100mb")], "less than the 209715200 bytes in use"),
            (
                &[("maxmemory", "1gb"), ("client-output-buffer-limit", "normal 0 0 0")],
                "may take all of it",
            ),
            (&[("client-output-buffer-limit", "normal 1 0 0")], "everyday replies"),
            (&[("client-output-buffer-limit", "pubsub 1mb 2mb 1")], "pubsub: the soft limit"),
            (&[("client-query-buffer-limit", "1mb")], "is below proto-max-bulk-len"),
            (&[("notify-keyspace-events", "A")], "publishes nothing"),
            (&[("notify-keyspace-events", "KE")], "publishes nothing"),
            (&[("replica-max-staleness", "50")], "-STALE"),
            (&[("appendonly", "no"), ("min-replicas-to-write", "1")], "-NOREPLICAS"),
            (&[("appendonly", "no"), ("appendfsync", "always")], "there is no log"),
            (&[("cluster-announce", "a:1")], "belongs to no cluster"),
            (&[("sentinel-port", "1")], "no node of a cluster"),
            (&[("cluster-nodes", "localhost:8080,b:1")], "a third node"),
            (&[("cluster-nodes", "a:1,b:1,c:1"), ("cluster-announce", "d:1")], "does not vote"),
            (&[("cluster-nodes", "localhost:8080"), ("ack", "majority")], "reads index does not"),
        ];
        for (settings, expected) in cases {
            let said = advice(settings);
            assert!(said.iter().any(|text| text.contains(expected)), "{settings:?}: {said:?}");
        }
    }
}

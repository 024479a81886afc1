//! `client-output-buffer-limit`: the limits on output that waits for a client that is slow to read.

use super::checks::parse_memory;

/// The class of the client that the output is for. The number of a variant is its place in
/// `OutputLimits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientClass {
    /// Sends commands and reads replies.
    Normal,
    /// A follower that reads the replication stream.
    Replica,
    /// Subscribed to a channel or a pattern.
    PubSub,
}

impl ClientClass {
    /// The class of this name, in upper or lower case. Redis's older name of `replica` is `slave`.
    pub fn named(name: &str) -> Option<ClientClass> {
        match name.to_ascii_lowercase().as_str() {
            "normal" => Some(ClientClass::Normal),
            "replica" | "slave" => Some(ClientClass::Replica),
            "pubsub" => Some(ClientClass::PubSub),
            _ => None,
        }
    }
}

/// The limit of one class. Zero means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// A client for which more bytes than this wait is disconnected at once.
    pub hard_bytes: u64,
    /// A client for which more bytes than this wait is disconnected after `soft_seconds`.
    pub soft_bytes: u64,
    /// The time that a client may stay over `soft_bytes`, in seconds.
    pub soft_seconds: u64,
}

/// The limits of all classes, by [`ClientClass`].
pub type OutputLimits = [OutputLimit; 3];

/// New limits for the classes that were named, by [`ClientClass`].
pub type LimitChanges = [Option<OutputLimit>; 3];

/// Parses `class hard soft seconds`, for one class or several.
pub fn parse_limits(text: &str) -> Result<LimitChanges, &'static str> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let (groups, rest) = words.as_chunks::<4>();
    if groups.is_empty() || !rest.is_empty() {
        return Err("Wrong number of arguments in buffer limit configuration.");
    }
    let mut changes = LimitChanges::default();
    for [class, limit @ ..] in groups {
        let class = ClientClass::named(class)
            .ok_or("Invalid client class specified in buffer limit configuration.")?;
        let limit = parse_limit(limit)
            .ok_or("Error in hard, soft or soft_seconds setting in buffer limit configuration.")?;
        changes[class as usize] = Some(limit);
    }
    Ok(changes)
}

fn parse_limit([hard, soft, seconds]: &[&str; 3]) -> Option<OutputLimit> {
    let fits = |number: &u64| i64::try_from(*number).is_ok();
    Some(OutputLimit {
        hard_bytes: parse_memory(hard).filter(fits)?,
        soft_bytes: parse_memory(soft).filter(fits)?,
        soft_seconds: seconds.parse().ok().filter(fits)?,
    })
}

/// Changes the limits of the classes that were named.
pub fn change_limits(limits: &mut OutputLimits, changes: &LimitChanges) {
    for (limit, change) in limits.iter_mut().zip(changes) {
        *limit = change.unwrap_or(*limit);
    }
}

/// All limits as CONFIG GET shows them. As in Redis, followers are still called `slave` here.
pub fn show_limits(limits: &OutputLimits) -> String {
    let show = |(class, l): (&str, &OutputLimit)| {
        format!("{class} {} {} {}", l.hard_bytes, l.soft_bytes, l.soft_seconds)
    };
    ["normal", "slave", "pubsub"].into_iter().zip(limits).map(show).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_classes_in_one_value() {
        let changes = parse_limits("Slave 1kb 2k 3  pubsub 0 0 0").expect("well-formed");
        let replica = OutputLimit { hard_bytes: 1024, soft_bytes: 2000, soft_seconds: 3 };
        assert_eq!(changes, [None, Some(replica), Some(OutputLimit::default())]);
    }

    #[test]
    fn classes_that_are_not_named_stay() {
        let mut limits = OutputLimits::default();
        for text in ["replica 7 8 9", "normal 1 2 3"] {
            change_limits(&mut limits, &parse_limits(text).expect("well-formed"));
        }
        assert_eq!(show_limits(&limits), "normal 1 2 3 slave 7 8 9 pubsub 0 0 0");
    }

    #[test]
    fn errors_are_those_of_redis() {
        let count = "Wrong number of arguments in buffer limit configuration.";
        let class = "Invalid client class specified in buffer limit configuration.";
        let limit = "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
        assert_eq!(parse_limits(""), Err(count));
        assert_eq!(parse_limits("normal 1 2"), Err(count));
        assert_eq!(parse_limits("master 1 2 3"), Err(class));
        assert_eq!(parse_limits("normal 1x 2 3"), Err(limit));
        assert_eq!(parse_limits("normal 1 2 -3"), Err(limit));
    }
}

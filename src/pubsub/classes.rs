//! Classes of keyspace events, as `notify-keyspace-events` names them.

use std::fmt;

/// A set of classes of events, and of channels to publish them on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u16);

/// By bit, in the order in which Redis shows them. The first ten are `A`; `l s h z t d` are about types
/// that we do not have.
const LETTERS: &str = "g$lshzxetdnKEm";
const ALL: Classes = Classes((1 << 10) - 1);

impl Classes {
    /// None.
    pub const NONE: Classes = Classes(0);
    /// `g`: commands on keys of any type.
    pub const GENERIC: Classes = Classes(1);
    /// `$`: commands on strings.
    pub const STRING: Classes = Classes(1 << 1);
    /// `x`: a key has expired.
    pub const EXPIRED: Classes = Classes(1 << 6);
    /// `e`: a key was evicted to make room.
    pub const EVICTED: Classes = Classes(1 << 7);
    /// `n`: a key is new.
    pub const NEW: Classes = Classes(1 << 10);
    /// `K`: published on the channel `__keyspace@0__:<key>`.
    pub const KEYSPACE: Classes = Classes(1 << 11);
    /// `E`: published on the channel `__keyevent@0__:<event>`.
    pub const KEYEVENT: Classes = Classes(1 << 12);
    /// `m`: a key that was read is absent.
    pub const MISS: Classes = Classes(1 << 13);

    /// The class of an event.
    pub fn of(event: &str) -> Classes {
        match event {
            "append" | "incrby" | "incrbyfloat" | "set" | "setbit" | "setrange" => Classes::STRING,
            "expired" => Classes::EXPIRED,
            "evicted" => Classes::EVICTED,
            "new" => Classes::NEW,
            "keymiss" => Classes::MISS,
            _ => Classes::GENERIC,
        }
    }

    /// Reads the letters of the setting.
    pub fn parse(letters: &str) -> Option<Classes> {
        letters.chars().try_fold(Classes::NONE, |set, letter| match letter {
            'A' => Some(Classes(set.0 | ALL.0)),
            _ => LETTERS.find(letter).map(|bit| Classes(set.0 | 1 << bit)),
        })
    }

    /// As the setting keeps it.
    pub fn from_bits(bits: i64) -> Classes {
        Classes(bits as u16)
    }

    /// For the setting to keep.
    pub fn bits(self) -> i64 {
        i64::from(self.0)
    }

    /// True if all of `other` are among these.
    pub fn has(self, other: Classes) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if anything is published.
    pub fn have_a_channel(self) -> bool {
        self.has(Classes::KEYSPACE) || self.has(Classes::KEYEVENT)
    }
}

impl fmt::Display for Classes {
    /// As CONFIG GET shows it. As in Redis, `n` is not shown after `A`, although `A` does not contain it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = if self.has(ALL) { ALL.0 | Classes::NEW.0 } else { 0 };
        f.write_str(if hidden > 0 { "A" } else { "" })?;
        let shown = self.0 & !hidden;
        let mut letters = LETTERS.chars().enumerate().filter(|(bit, _)| shown & 1 << bit != 0);
        letters.try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Classes;

    #[test]
    fn events_have_the_classes_that_redis_gives_them() {
        for (events, letter) in [
            ("set setrange append incrby incrbyfloat setbit", "$"),
            ("del expire persist rename_from rename_to copy_to restore", "g"),
            ("expired", "x"),
            ("evicted", "e"),
            ("new", "n"),
            ("keymiss", "m"),
        ] {
            let class = Classes::parse(letter).expect("a letter");
            assert!(events.split(' ').all(|event| Classes::of(event) == class), "{events}");
        }
    }

    #[test]
    fn letters_are_shown_as_redis_shows_them() {
        for (given, shown) in [
            ("KEA", "AKE"),
            ("AKEmn", "AKEm"),
            ("KEg$", "g$KE"),
            ("xKEe", "xeKE"),
            ("lshztdg$xeK", "AK"),
            ("", ""),
            ("nm", "nm"),
        ] {
            let classes = Classes::parse(given).expect("letters");
            assert_eq!(classes.to_string(), shown);
            assert_eq!(Classes::from_bits(classes.bits()), classes);
        }
        assert_eq!(Classes::parse("Kq"), None);
        assert!(
            Classes::parse("AKn").is_some_and(|all| all.has(Classes::NEW) && all.have_a_channel())
        );
        assert!(Classes::parse("A").is_some_and(|all| !all.have_a_channel()));
    }
}

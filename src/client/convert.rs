//! From replies to the caller's types.

use super::error::Error;
use super::reply::Value;

/// A type that a reply can be turned into.
pub trait FromValue: Sized {
    /// Converts a reply. An error reply becomes [`Error::Refused`], another type [`Error::Unexpected`].
    fn from_value(value: Value) -> Result<Self, Error>;
}

fn unexpected<T>(wanted: &str, value: Value) -> Result<T, Error> {
    match value {
        Value::Error(text) => Err(Error::Refused(text)),
        other => {
            let mut shown = format!("{other:?}");
            shown.truncate(shown.floor_char_boundary(200));
            Err(Error::Unexpected(format!("{shown} in place of {wanted}")))
        }
    }
}

impl FromValue for Value {
    fn from_value(value: Value) -> Result<Value, Error> {
        if let Value::Error(_) = value { unexpected("a value", value) } else { Ok(value) }
    }
}

/// Any reply that is not an error.
impl FromValue for () {
    fn from_value(value: Value) -> Result<(), Error> {
        Value::from_value(value).map(drop)
    }
}

/// True for 1, OK and true; false for 0, nil and false.
impl FromValue for bool {
    fn from_value(value: Value) -> Result<bool, Error> {
        match value {
            Value::Bool(it) => Ok(it),
            Value::Int(0) | Value::Nil => Ok(false),
            Value::Int(1) => Ok(true),
            Value::Text(text) if text == "OK" => Ok(true),
            other => unexpected("a boolean", other),
        }
    }
}

/// The text of a string, if it is one.
fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

macro_rules! numbers {
    ($($type:ty)+) => {$(
        impl FromValue for $type {
            fn from_value(value: Value) -> Result<$type, Error> {
                let number = match &value {
                    Value::Int(number) => <$type>::try_from(*number).ok(),
                    other => text(other).and_then(|text| text.parse().ok()),
                };
                number.map_or_else(|| unexpected(stringify!($type), value), Ok)
            }
        }
    )+};
}

numbers!(i64 u64 i32 u32 usize);

impl FromValue for f64 {
    fn from_value(value: Value) -> Result<f64, Error> {
        let number = match &value {
            Value::Double(number) => Some(*number),
            Value::Int(number) => Some(*number as f64),
            other => text(other).and_then(|text| text.parse().ok()),
        };
        number.map_or_else(|| unexpected("a number", value), Ok)
    }
}

/// A string that is UTF-8; ask for `Vec<u8>` if it may not be.
impl FromValue for String {
    fn from_value(value: Value) -> Result<String, Error> {
        match value {
            Value::Text(text) => Ok(text),
            Value::Int(number) => Ok(number.to_string()),
            Value::Bytes(bytes) => String::from_utf8(bytes)
                .or_else(|error| unexpected("UTF-8", Value::Bytes(error.into_bytes()))),
            other => unexpected("a string", other),
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value) -> Result<Vec<u8>, Error> {
        match value {
            Value::Bytes(bytes) => Ok(bytes),
            other => String::from_value(other).map(String::into_bytes),
        }
    }
}

/// None for nil.
impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Result<Option<T>, Error> {
        if value == Value::Nil { Ok(None) } else { T::from_value(value).map(Some) }
    }
}

/// The elements of an array, all of one type.
impl<T: FromValue> FromValue for Vec<T> {
    fn from_value(value: Value) -> Result<Vec<T>, Error> {
        items(value)?.into_iter().map(T::from_value).collect()
    }
}

/// The elements of an array; a map is an array of pairs.
fn items(value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(items) | Value::Push(items) => Ok(items),
        Value::Map(pairs) => {
            Ok(pairs.into_iter().map(|(key, value)| Value::Array(vec![key, value])).collect())
        }
        other => unexpected("an array", other),
    }
}

macro_rules! tuples {
    ($(($($name:ident)+) $len:literal)+) => {$(
        /// An array of exactly so many elements, each of its own type.
        impl<$($name: FromValue),+> FromValue for ($($name,)+) {
            fn from_value(value: Value) -> Result<Self, Error> {
                let mut items = items(value)?;
                if items.len() != $len {
                    return unexpected(concat!($len, " elements"), Value::Array(items));
                }
                let mut items = items.drain(..);
                Ok(($($name::from_value(items.next().unwrap_or(Value::Nil))?,)+))
            }
        }
    )+};
}

tuples! {
    (A) 1
    (A B) 2
    (A B C) 3
    (A B C D) 4
    (A B C D E) 5
    (A B C D E F) 6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn replies_become_the_types_asked_for() {
        assert_eq!(i64::from_value(Value::Int(-1)), Ok(-1));
        assert_eq!(i64::from_value(bytes("42")), Ok(42));
        assert_eq!(Option::<String>::from_value(Value::Nil), Ok(None));
        assert_eq!(bool::from_value(Value::Text("OK".to_owned())), Ok(true));
        let array = Value::Array(vec![bytes("a"), Value::Int(2), Value::Nil]);
        let tuple = <(String, u64, Option<Vec<u8>>)>::from_value(array);
        assert_eq!(tuple, Ok(("a".to_owned(), 2, None)));
        let map = Value::Map(vec![(bytes("k"), bytes("v"))]);
        let pairs = Vec::<(String, String)>::from_value(map);
        assert_eq!(pairs, Ok(vec![("k".to_owned(), "v".to_owned())]));
    }

    #[test]
    fn other_types_are_errors() {
        assert_eq!(
            String::from_value(Value::Error("ERR no".to_owned())),
            Err(Error::Refused("ERR no".to_owned()))
        );
        assert!(matches!(u64::from_value(Value::Int(-1)), Err(Error::Unexpected(_))));
        assert!(matches!(String::from_value(Value::Nil), Err(Error::Unexpected(_))));
        assert!(matches!(String::from_value(Value::Bytes(vec![255])), Err(Error::Unexpected(_))));
        let one = Value::Array(vec![Value::Int(1)]);
        assert!(matches!(<(i64, i64)>::from_value(one), Err(Error::Unexpected(_))));
        assert!(matches!(Value::from_value(Value::Error(String::new())), Err(Error::Refused(_))));
    }
}

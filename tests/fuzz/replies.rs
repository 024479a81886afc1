//! A parser of replies, written from the protocol's description and from nothing of ours.

/// The length of the RESP reply at the start of `bytes`, or why there is none. `protocol` is 2 or 3.
pub fn reply_len(bytes: &[u8], protocol: u8) -> Result<usize, String> {
    let line_len = bytes.windows(2).position(|pair| pair == b"\r\n").ok_or("no line end")?;
    let line = std::str::from_utf8(&bytes[..line_len]).or_else(|_| {
        if bytes[0] == b'-' { Ok("-not UTF-8") } else { Err("a header is not text") }
    })?;
    let (kind, rest) = line.split_at_checked(1).ok_or("an empty line")?;
    if line.contains('\n') || line.contains('\r') {
        return Err(format!("a bare line end in {line:?}"));
    }
    let after = line_len + 2;
    let number = || rest.parse::<i64>().map_err(|_| format!("{line:?} holds no number"));
    let len = || usize::try_from(number()?).map_err(|_| format!("{line:?} is a negative length"));
    match (kind, protocol) {
        ("+" | "-", _) => Ok(after),
        (":", _) => number().map(|_| after),
        ("$" | "*", 2) if rest == "-1" => Ok(after),
        ("$", _) => blob_end(bytes, after, len()?),
        ("*", _) => elements_end(bytes, after, len()?, protocol),
        ("_", 3) if rest.is_empty() => Ok(after),
        ("#", 3) if matches!(rest, "t" | "f") => Ok(after),
        (",", 3) if rest.parse::<f64>().is_ok() => Ok(after),
        ("!" | "=", 3) => blob_end(bytes, after, len()?),
        ("~" | ">", 3) => elements_end(bytes, after, len()?, protocol),
        ("%", 3) => elements_end(bytes, after, 2 * len()?, protocol),
        _ => Err(format!("{line:?} is no reply of RESP{protocol}")),
    }
}

fn blob_end(bytes: &[u8], start: usize, len: usize) -> Result<usize, String> {
    match bytes.get(start + len..start + len + 2) {
        Some(b"\r\n") => Ok(start + len + 2),
        _ => Err(format!("a string of {len} bytes is not as long as it says")),
    }
}

fn elements_end(bytes: &[u8], start: usize, len: usize, protocol: u8) -> Result<usize, String> {
    (0..len).try_fold(start, |at, _| Ok(at + reply_len(&bytes[at..], protocol)?))
}

/// Why these bytes are not one RESP reply and nothing else.
pub fn check_resp(bytes: &[u8], protocol: u8) -> Result<(), String> {
    let len = reply_len(bytes, protocol)?;
    if len == bytes.len() {
        Ok(())
    } else {
        Err(format!("{} bytes behind a reply", bytes.len() - len))
    }
}

/// Why these bytes are not an answer to a person: whole lines of characters.
pub fn check_text(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    if !text.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    // INFO's page has the line ends that clients expect of it.
    match text.replace("\r\n", "\n").chars().find(|c| c.is_control() && *c != '\n') {
        Some(control) => Err(format!("{control:?} reaches the terminal")),
        None => Ok(()),
    }
}

#[test]
fn a_whole_reply_is_told_from_a_broken_one() {
    for whole in ["+OK\r\n", "*2\r\n:1\r\n$1\r\na\r\n", "$-1\r\n", "*0\r\n", "-ERR x\r\n"] {
        assert_eq!(check_resp(whole.as_bytes(), 2), Ok(()), "{whole:?}");
        let half = &whole.as_bytes()[..whole.len() - 1];
        assert!(check_resp(half, 2).is_err(), "{half:?}");
        assert!(check_resp(&[whole.as_bytes(), b"+"].concat(), 2).is_err(), "{whole:?}");
    }
    for of_resp3 in ["_\r\n", "%1\r\n+a\r\n,1.5\r\n", "=5\r\ntxt:a\r\n", "~1\r\n#t\r\n"] {
        assert_eq!(check_resp(of_resp3.as_bytes(), 3), Ok(()), "{of_resp3:?}");
        assert!(check_resp(of_resp3.as_bytes(), 2).is_err(), "{of_resp3:?}");
    }
    assert!(check_text(b"1) a\n2) b\n").is_ok());
    for broken in [&b""[..], b"OK", b"\x1b[2J\n", b"\xff\n"] {
        assert!(check_text(broken).is_err(), "{broken:?}");
    }
}

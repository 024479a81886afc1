//! A strict parser for the head of an HTTP request: anything irregular is refused.
//!
//! Lenient parsers invite request smuggling: a bare line feed, a folded line or a blank before a colon
//! means one thing to a proxy and another to its server. No honest client sends any of them.
//! Bodies are not read, since no request here needs one.

/// The longest head, in bytes. Browsers send one or two thousand.
pub const HEAD_BYTES_MAX: usize = 8 << 10;
/// The end of a head.
pub const HEAD_END: &[u8] = b"\r\n\r\n";

/// A parsed head.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// As sent: GET, HEAD, or a method that the caller refuses.
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// What follows the path after a `?`, or empty.
    pub query: &'a str,
    /// The Host header without the port. Optional in HTTP/1.0.
    pub host: Option<&'a str>,
    /// True if another kvstore asks us to give up the port.
    pub asks_for_port: bool,
}

/// A status code, and the reason for the response's body.
pub type Refusal = (u16, &'static str);

const BAD: Refusal = (400, "this is not an HTTP request");

/// Reads a head, from its first byte up to and with [`HEAD_END`].
pub fn parse(head: &[u8]) -> Result<Request<'_>, Refusal> {
    let text = head.strip_suffix(HEAD_END).and_then(|head| str::from_utf8(head).ok()).ok_or(BAD)?;
    let mut lines = text.split("\r\n");
    let (mut request, version) = parse_line(lines.next().unwrap_or_default())?;
    for line in lines {
        parse_field(line, &mut request)?;
    }
    if request.host.is_none() && version != "HTTP/1.0" {
        return Err((400, "the Host header is missing"));
    }
    Ok(request)
}

/// Parses `GET /path?query HTTP/1.1`. Returns the request so far, and the version.
fn parse_line(line: &str) -> Result<(Request<'_>, &str), Refusal> {
    let words: Vec<&str> = line.split(' ').collect();
    let &[method, target, version] = words.as_slice() else { return Err(BAD) };
    if line.bytes().any(|byte| byte.is_ascii_control()) || method.is_empty() {
        return Err(BAD);
    }
    match version {
        "HTTP/1.1" | "HTTP/1.0" => {}
        _ if version.starts_with("HTTP/") => return Err((505, "only HTTP/1.1 and 1.0 are spoken")),
        _ => return Err(BAD),
    }
    if !target.starts_with('/') {
        return Err((400, "only a path can be asked for"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok((Request { method, path, query, host: None, asks_for_port: false }, version))
}

/// Parses a header line, `Name: value`, into the request.
fn parse_field<'a>(line: &'a str, request: &mut Request<'a>) -> Result<(), Refusal> {
    let (name, value) = line.split_once(':').ok_or(BAD)?;
    // Values may contain tabs. Names may not contain blanks, so folded lines and blanks before the colon
    // are refused, too.
    let is_name = |byte: u8| byte.is_ascii_graphic();
    let is_value = |byte: u8| byte == b'\t' || !byte.is_ascii_control();
    if name.is_empty() || !name.bytes().all(is_name) || !value.bytes().all(is_value) {
        return Err(BAD);
    }
    let value = value.trim_ascii();
    match name.to_ascii_lowercase().as_str() {
        "host" if request.host.is_some() => return Err((400, "two Host headers")),
        "host" => request.host = Some(without_port(value).ok_or((400, "a bad Host header"))?),
        "transfer-encoding" => return Err((400, "a request with a body")),
        "content-length" if value != "0" => return Err((400, "a request with a body")),
        "kvstore-asks-for-port" => request.asks_for_port = true,
        _ => {}
    }
    Ok(())
}

/// `name:8081` or `[::1]:8081` without the port.
fn without_port(host: &str) -> Option<&str> {
    let name_len = match host.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(name_len);
    let digits = port.strip_prefix(':').unwrap_or(port);
    let is_port = port.is_empty() || digits.len() < port.len();
    (is_port && digits.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty())
        .then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(value: &str) -> Result<Option<String>, u16> {
        let head = format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n");
        parse(head.as_bytes()).map(|r| r.host.map(str::to_string)).map_err(|(status, _)| status)
    }

    #[test]
    fn a_browsers_request_is_understood() {
        let head =
            b"GET /status.json?x=1 HTTP/1.1\r\nhOsT:\tlocalhost:8081 \r\nAccept: */*\r\n\r\n";
        let expected = Request {
            method: "GET",
            path: "/status.json",
            query: "x=1",
            host: Some("localhost"),
            asks_for_port: false,
        };
        assert_eq!(parse(head), Ok(expected));
        assert!(parse(b"HEAD / HTTP/1.0\r\n\r\n").is_ok_and(|request| request.host.is_none()));
    }

    #[test]
    fn hosts_lose_their_port_and_nothing_else() {
        let cases = [("a.b", "a.b"), ("a:1", "a"), ("[::1]", "[::1]"), ("[::1]:80", "[::1]")];
        for (value, name) in cases {
            assert_eq!(host(value), Ok(Some(name.to_string())), "{value}");
        }
        for value in ["", ":1", "a:b", "[::1", "[::1]x", "a:1:2", "localhost\u{0}"] {
            assert_eq!(host(value), Err(400), "{value}");
        }
    }

    #[test]
    fn tricks_are_refused() {
        let heads: [&[u8]; 17] = [
            b"",
            b"\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
            b"SET / k\r\nHost: a\r\n\r\n",
        ];
        for head in heads {
            let status = parse(head).map_err(|(status, _)| status);
            assert_eq!(status, Err(400), "{}", head.escape_ascii());
        }
        // Any change to a good head is refused or read, and no control character gets through.
        let good = b"GET /a?b HTTP/1.1\r\nHost: [::1]:80\r\nX: y\r\n\r\n";
        for (at, byte) in (0..good.len()).flat_map(|at| b"\r\n\0 :/[]x\xff".map(|byte| (at, byte)))
        {
            let mut head = good.to_vec();
            head[at] = byte;
            if let Ok(Request { method, path, host, .. }) = parse(&head) {
                let texts = [method, path, host.unwrap_or_default()].concat();
                assert!(
                    !texts.bytes().any(|byte| byte.is_ascii_control()),
                    "{}",
                    head.escape_ascii()
                );
            }
        }
        let newer = parse(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n").map_err(|(status, _)| status);
        assert_eq!(newer, Err(505));
    }
}

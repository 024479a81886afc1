//! The answer of each path. Nothing here runs a command or changes anything.
//!
//! The page's one inline style and one inline script have a nonce, new for each answer. The Content-Security-Policy
//! lets nothing else run, so a client's name that was mistaken for HTML could still not be a script.

use super::request::{Refusal, Request};
use super::{HttpState, LOADING, READY};
use crate::observe::load::LoadProgress;
use crate::observe::{prometheus, status};
use crate::random;
use std::fmt::Write;
use std::net::IpAddr;

const PAGE: &str = include_str!("status.html");
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// An answer without its first line and headers.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    media_type: &'static str,
    body: String,
    /// The page's nonce.
    nonce: Option<String>,
}

impl Answer {
    fn text(status: u16, body: impl Into<String>) -> Answer {
        Answer { status, media_type: TEXT, body: body.into() + "\n", nonce: None }
    }

    fn typed(media_type: &'static str, body: String) -> Answer {
        Answer { status: 200, media_type, body, nonce: None }
    }

    /// The bytes to send. A HEAD request gets the length of a body, but no body.
    pub fn encode(&self, with_body: bool) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             Referrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\n",
            self.status,
            reason(self.status),
            self.media_type,
            self.body.len(),
        );
        if self.status == 405 {
            head.push_str("Allow: GET, HEAD\r\n");
        }
        head.push_str("Content-Security-Policy: default-src 'none'; frame-ancestors 'none'");
        if let Some(nonce) = &self.nonce {
            let _ = write!(
                head,
                "; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
                 img-src data:; base-uri 'none'; form-action 'none'"
            );
        }
        head.push_str("\r\n\r\n");
        if with_body {
            head.push_str(&self.body);
        }
        head.into_bytes()
    }
}

impl From<Refusal> for Answer {
    fn from((status, why): Refusal) -> Answer {
        Answer::text(status, why)
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        505 => "HTTP Version Not Supported",
        _ => "Service Unavailable",
    }
}

/// Answers a request that came to our address `local`.
pub fn answer(state: &HttpState, request: &Request<'_>, local: IpAddr) -> Answer {
    if !request.host.is_none_or(|host| is_our_name(host, local, &state.hosts)) {
        return Answer::text(403, "this Host name is not one of ours (see metrics-host)");
    }
    if !matches!(request.method, "GET" | "HEAD") {
        return Answer::text(405, "only GET and HEAD are served");
    }
    match request.path {
        "/" => page(),
        "/metrics" => match state.engine() {
            Some(engine) => Answer::typed(prometheus::MEDIA_TYPE, prometheus::page(engine)),
            None => match LoadProgress::of(&state.loading) {
                Some(load) => Answer::typed(prometheus::MEDIA_TYPE, prometheus::loading(load)),
                None => Answer::text(503, LOADING),
            },
        },
        "/status.json" => Answer::typed(JSON, status_json(state)),
        "/healthz" => Answer::text(200, "ok"),
        "/readyz" if request.query == "leader" && !leads(state) => {
            Answer::text(503, "another node leads, or none")
        }
        "/readyz" => ready(state),
        "/port" if request.asks_for_port && state.may_give_way => {
            state.give_way();
            Answer::text(200, "it is yours")
        }
        _ => Answer::text(404, "there are /, /metrics, /healthz, /readyz and /status.json"),
    }
}

/// True if a client may call us by this name. An attacker can point a name of his at us (DNS rebinding), but not
/// make a browser send the address itself.
fn is_our_name(host: &str, local: IpAddr, more: &[String]) -> bool {
    let host = host.to_ascii_lowercase();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    matches!(bare, "localhost" | "127.0.0.1" | "::1")
        || bare.parse().is_ok_and(|ip: IpAddr| ip.to_canonical() == local.to_canonical())
        || more.iter().any(|name| name == "*" || *name == host)
}

fn page() -> Answer {
    let nonce = random::hex40();
    let body = PAGE.replace("{nonce}", &nonce);
    Answer { nonce: Some(nonce), ..Answer::typed("text/html; charset=utf-8", body) }
}

/// True if this node takes writes. A load balancer finds the leader by it.
fn leads(state: &HttpState) -> bool {
    state.engine().is_some_and(|engine| !engine.role.is_follower())
}

/// A failed log does not make the server unready: without the reads, half a failure would become a whole one.
fn ready(state: &HttpState) -> Answer {
    match state.state() {
        (_, Some(error)) => Answer::text(200, format!("ready, for reads only: {error}")),
        (state, None) => Answer::text(if state == READY { 200 } else { 503 }, state),
    }
}

fn status_json(state: &HttpState) -> String {
    let name = |is_loading| state.state_while(is_loading).0;
    match state.engine() {
        Some(engine) => status::page(engine, name, state.may_show_data(engine)),
        None => status::loading_page(name(true), LoadProgress::of(&state.loading)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_others_cannot_point_here_are_ours() {
        let local = "192.0.2.7".parse().expect("an address");
        let more = ["kv.example.org".to_string()];
        for host in ["localhost", "LocalHost", "127.0.0.1", "[::1]", "192.0.2.7", "kv.example.org"]
        {
            assert!(is_our_name(host, local, &more), "{host}");
        }
        let foreign =
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0"];
        for host in foreign.into_iter().chain(["192.0.2.8", "[::2]", "kv.example.org.", ""]) {
            assert!(!is_our_name(host, local, &more), "{host}");
        }
        assert!(is_our_name("evil.example", local, &["*".to_string()]));
    }

    #[test]
    fn a_head_is_well_formed_and_the_pages_nonce_is_in_it() {
        let sent = String::from_utf8(page().encode(false)).expect("text");
        assert!(sent.starts_with("HTTP/1.1 200 OK\r\n") && sent.ends_with("'none'\r\n\r\n"));
        assert!(sent.lines().all(|line| !line.contains("{nonce}")));
        let page = page();
        let nonce = page.nonce.clone().expect("the page has one");
        assert_eq!(page.body.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    }
}

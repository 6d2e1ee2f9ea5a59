//! An HTTP request as text: what `--request` names.

use std::io::Read as _;

use bytes::Bytes;
use tidemill_core::webhook::{Headers, Method, Request};
use tidemill_types::limits::MESSAGE_BYTES_MAX;

use crate::failure::Failure;

/// Most bytes before the body.
const HEAD_BYTES_MAX: usize = 64 * 1024;

pub fn read(file: &str) -> Result<Request, Failure> {
    let most = (MESSAGE_BYTES_MAX + HEAD_BYTES_MAX) as u64;
    let mut bytes = Vec::new();
    let result = if file == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    result.map_err(|error| Failure::failed("FILE", format!("{file}: {error}")))?;
    parse(Bytes::from(bytes)).map_err(|reason| Failure::usage(format!("{file}: {reason}")))
}

fn parse(bytes: Bytes) -> Result<Request, String> {
    let (head, body) = split(&bytes);
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let mut words = first.split_whitespace();
    let method = match words.next() {
        Some("GET") => Method::Get,
        Some("POST") => Method::Post,
        _ => {
            return Err(
                "the first line must be such as `POST /hook/orders HTTP/1.1`, with GET or POST"
                    .into(),
            );
        }
    };
    let target = words.next().unwrap_or_default();
    let path_start = target
        .find("/hook/")
        .ok_or("the path must be /hook/FLOW or /hook/FLOW/SUFFIX")?;
    let (path, query) = target[path_start..]
        .split_once('?')
        .unwrap_or((&target[path_start..], ""));
    let mut parts = path.trim_start_matches("/hook/").splitn(2, '/');
    let flow = parts.next().unwrap_or_default();
    let suffix = parts.next().unwrap_or_default();
    if flow.is_empty() || suffix.contains('/') {
        return Err("the path must be /hook/FLOW or /hook/FLOW/SUFFIX".into());
    }
    let headers: Vec<(&str, &str)> = lines
        .map(|line| {
            let header = line
                .split_once(':')
                .map(|(name, value)| (name.trim(), value.trim()));
            header.ok_or_else(|| format!("not a header: {line}"))
        })
        .collect::<Result<_, _>>()?;
    Ok(Request {
        method,
        suffix: suffix.to_owned(),
        query: query.to_owned(),
        headers: headers.into_iter().collect::<Headers>(),
        body,
    })
}

/// What stands before and after the first empty line.
fn split(bytes: &Bytes) -> (Bytes, Bytes) {
    let mut start = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let end = start + line.len();
        if matches!(line, b"\n" | b"\r\n") {
            return (bytes.slice(..start), bytes.slice(end..));
        }
        start = end;
    }
    (bytes.clone(), Bytes::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written() {
        for end in ["\n", "\r\n"] {
            let text = [
                "POST /hook/orders/new?a=1 HTTP/1.1",
                "Host: x",
                "Content-Type: text/csv",
                "",
                "a\n\nb\r\n",
            ]
            .join(end);
            let request = parse(Bytes::from(text)).expect("a request");
            assert_eq!(request.method, Method::Post);
            assert_eq!(
                (request.suffix.as_str(), request.query.as_str()),
                ("new", "a=1")
            );
            assert_eq!(request.headers.get("content-type"), Some("text/csv"));
            assert_eq!(request.body, "a\n\nb\r\n");
        }
        let request = parse(Bytes::from_static(b"GET http://h:1/hook/x?q")).expect("a request");
        assert_eq!((request.method, request.query.as_str()), (Method::Get, "q"));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for text in [
            "",
            "PUT /hook/x",
            "GET",
            "GET /",
            "GET /hook/",
            "GET /hook/a/b/c",
            "GET /hook/a\nnonsense\n",
        ] {
            assert!(parse(Bytes::from(text)).is_err(), "{text}");
        }
    }
}

//! Methods (RFC 9110 9).

use crate::case::{Case, Shape};

/// Tokens and what else may stand in their place.
const METHODS: &[&str] = &[
    "GET",
    "HEAD",
    "OPTIONS",
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "TRACE",
    "PROPFIND",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "SEARCH",
    "BREW",
    "get",
    "Get",
    "head",
    "GETT",
    "GE",
    "HEADER",
    "G-ET",
    "GET_",
    "GET1",
    "X!#$%&'*+.^`|~",
    "G(ET",
    "\"GET\"",
    "G/ET",
    "GET:",
    "G\u{e9}T",
];

pub(crate) fn cases() -> Vec<Case> {
    let on = |method: &str, target: &str| {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: tagwire\r\n\r\n");
        Case::new(format!("method {method} {target}"), request)
    };
    let mut cases: Vec<Case> = METHODS.iter().map(|method| on(method, "/letters")).collect();
    for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"] {
        for target in ["/", "/missing", "/sub", "/bare/", "/empty"] {
            cases.push(on(method, target));
        }
    }
    cases.extend([
        on("OPTIONS", "*"),
        on("GET", "*"),
        on("HEAD", "*"),
        on("CONNECT", "/letters"),
        on("CONNECT", "tagwire:80"),
        on("GET", "tagwire:80"),
        on("PRI", "*"),
        on("", "/letters").unfinished(),
        Case::new(
            "method of 40 letters",
            format!("{} /letters HTTP/1.1\r\nHost: tagwire\r\n\r\n", "M".repeat(40)),
        ),
        Case::new(
            "method of 3000 letters",
            format!("{} /letters HTTP/1.1\r\nHost: tagwire\r\n\r\n", "M".repeat(3000)),
        ),
        Case::new("method preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ]);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let request = format!(
            "{method} /letters HTTP/1.1\r\nHost: tagwire\r\nContent-Length: 5\r\n\r\nhello"
        );
        cases.push(Case::new(format!("method {method} with a body"), request));
    }
    cases.push(
        Case::new(
            "method HEAD then GET",
            "HEAD /letters HTTP/1.1\r\nHost: tagwire\r\n\r\n\
             GET /letters HTTP/1.1\r\nHost: tagwire\r\n\r\n",
        )
        .answered(&[Shape::HeadOnly, Shape::Framed]),
    );
    cases
}
